-- Lets a rollout continue that was held.
obj.spec.paused = false
return obj
