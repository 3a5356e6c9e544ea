-- Actions on a ModelDeployment that are possible now. The command line offers the same ones (kubectl modeldeploy).
local status = obj.status or {}
local canary = status.canaryRevision or ""
local stable = status.stableRevision or ""
local aborted = status.abortedRevision or ""

local earlier = false
for _, entry in ipairs(status.history or {}) do
  if entry.result == "Promoted" and entry.revision ~= stable then
    earlier = true
  end
end
local paused = obj.spec.paused == true

local actions = {}
actions["promote"] = {disabled = canary == ""}
actions["promote-full"] = {disabled = canary == ""}
actions["abort"] = {disabled = canary == ""}
actions["retry"] = {disabled = aborted == ""}
actions["undo"] = {disabled = canary ~= "" or not earlier}
actions["pause"] = {disabled = paused}
actions["resume"] = {disabled = not paused}
return actions
