-- Tries the aborted revision again.
local os = require("os")

if obj.status == nil or obj.status.abortedRevision == nil or obj.status.abortedRevision == "" then
  error("there is no aborted revision to retry")
end
obj.metadata.annotations = obj.metadata.annotations or {}
obj.metadata.annotations["modeldeploy.dev/retry"] = obj.status.abortedRevision .. "@" .. tostring(os.time())
return obj
