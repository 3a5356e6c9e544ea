-- Takes the new revision back.
local os = require("os")

if obj.status == nil or obj.status.canaryRevision == nil or obj.status.canaryRevision == "" then
  error("there is no rollout to abort")
end
obj.metadata.annotations = obj.metadata.annotations or {}
obj.metadata.annotations["modeldeploy.dev/abort"] = obj.status.canaryRevision .. "@" .. tostring(os.time())
return obj
