"""`make demo`: the product's main job from one end to the other, on a machine without a cluster.

Two models are trained, deployed, asked, changed under load, broken, and deleted; every served
prediction is compared with the model's own. `story` tells the steps, the rest is the stage.
"""
