{{- define "modeldeploy.dashboard.name" -}}
{{- printf "%s-dashboard" (include "modeldeploy.fullname" . | trunc 53 | trimSuffix "-") -}}
{{- end -}}

{{- define "modeldeploy.dashboard.clusterName" -}}
{{- printf "%s-dashboard" (include "modeldeploy.clusterName" . | trunc 53 | trimSuffix "-") -}}
{{- end -}}

{{- define "modeldeploy.dashboard.selectorLabels" -}}
app.kubernetes.io/name: {{ include "modeldeploy.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: dashboard
{{- end -}}

{{- define "modeldeploy.dashboard.labels" -}}
{{ include "modeldeploy.dashboard.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{/* All that the dashboard may do by itself; to change something it uses the token of the request. */}}
{{- define "modeldeploy.dashboard.rules" -}}
- apiGroups: [modeldeploy.dev]
  resources: [modeldeployments]
  verbs: [get, list, watch]
- apiGroups: [modeldeploy.dev]
  resources: [modelpools]
  verbs: [get, list]
- apiGroups: [""]
  resources: [pods, events]
  verbs: [list, watch]
{{- end -}}
