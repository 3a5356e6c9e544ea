-- Ends the pause that the rollout is in.
local os = require("os")

if obj.status == nil or obj.status.canaryRevision == nil or obj.status.canaryRevision == "" then
  error("there is no rollout to promote")
end
obj.metadata.annotations = obj.metadata.annotations or {}
obj.metadata.annotations["modeldeploy.dev/promote"] = obj.status.canaryRevision .. "@" .. tostring(obj.status.currentStepIndex or 0) .. "/" .. tostring(os.time())
return obj
