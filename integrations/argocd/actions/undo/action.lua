-- Goes back to the revision that was live before. The operator writes its model and server into the spec.
local os = require("os")

local status = obj.status or {}
if status.canaryRevision ~= nil and status.canaryRevision ~= "" then
  error("a rollout is in progress: abort it instead")
end
local revision = nil
for _, entry in ipairs(status.history or {}) do
  if revision == nil and entry.result == "Promoted" and entry.revision ~= status.stableRevision then
    revision = entry.revision
  end
end
if revision == nil then
  error("there is no earlier revision that was live")
end
obj.metadata.annotations = obj.metadata.annotations or {}
obj.metadata.annotations["modeldeploy.dev/undo"] = revision .. "@" .. tostring(os.time())
return obj
