-- Skips the remaining steps.
local os = require("os")

if obj.status == nil or obj.status.canaryRevision == nil or obj.status.canaryRevision == "" then
  error("there is no rollout to promote")
end
obj.metadata.annotations = obj.metadata.annotations or {}
obj.metadata.annotations["modeldeploy.dev/promote-full"] = obj.status.canaryRevision .. "@" .. tostring(os.time())
return obj
