-- Health of a ModelDeployment for Argo CD: https://argo-cd.readthedocs.io/en/stable/operator-manual/health/
-- Argo CD gives scripts no string and no math library.
local health = {status = "Progressing", message = "Waiting for the operator"}
local status = obj.status

if obj.metadata.deletionTimestamp ~= nil then
  health.message = "Being deleted"
  return health
end
if status == nil or status.conditions == nil or status.observedGeneration ~= obj.metadata.generation then
  return health
end

local conditions = {}
for _, condition in ipairs(status.conditions) do
  conditions[condition.type] = condition
end
local function is_true(name)
  return conditions[name] ~= nil and conditions[name].status == "True"
end

health.message = status.message
if is_true("Stalled") then
  health.status = "Degraded"
elseif is_true("Paused") then
  health.status = "Suspended"
elseif is_true("Ready") then
  health.status = "Healthy"
elseif conditions.Ready ~= nil and conditions.Ready.reason == "ScaledToZero" then
  health.status = "Suspended"
end
return health
