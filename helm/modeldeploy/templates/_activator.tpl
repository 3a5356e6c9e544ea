{{- define "modeldeploy.activator.name" -}}
{{- printf "%s-activator" (include "modeldeploy.fullname" . | trunc 53 | trimSuffix "-") -}}
{{- end -}}

{{- define "modeldeploy.activator.selectorLabels" -}}
app.kubernetes.io/name: {{ include "modeldeploy.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: activator
{{- end -}}

{{- define "modeldeploy.activator.labels" -}}
{{ include "modeldeploy.activator.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}
