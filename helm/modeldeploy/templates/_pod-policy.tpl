{{/*
The variables of the ValidatingAdmissionPolicy: manifests/pod_security.py of the operator in CEL. `problems` has an entry
`PATH TEXT` for each field that is refused, in the operator's words. An overlay is read as it is merged: what it leaves out
is what the operator gives (`own`, `kept`), and what it sets to null is gone.
*/}}
{{- define "modeldeploy.podPolicy.unlisted" -}}
', which is not on the list of {{ index . 0 }} (podPolicyExceptions.{{ index . 1 }} of the chart)'
{{- end -}}
{{- define "modeldeploy.podPolicy.variables" -}}
{{- $listed := .Values.podPolicyExceptions -}}
{{- $images := list (include "modeldeploy.image" (list . .Values.image.server)) -}}
{{- $beginnings := list -}}
{{- range $listed.images -}}
{{- if hasSuffix "*" . }}{{ $beginnings = append $beginnings (trimSuffix "*" .) }}{{ else }}{{ $images = append $images . }}{{ end -}}
{{- end -}}
- name: level
  expression: >-
    request.namespace in {{ $listed.namespaces | toJson }}
    ? {{ $listed.namespaces | toJson }}[request.namespace] : {{ .Values.podPolicy | toJson }}
- name: images
  expression: {{ $images | toJson | squote }}
- name: beginnings
  expression: {{ $beginnings | toJson | squote }}
- name: accounts
  expression: {{ $listed.serviceAccounts | toJson | squote }}
- name: hostPaths
  expression: {{ $listed.hostPaths | toJson | squote }}
# Of a ModelDeployment, of a ModelBatch, which has no hooks, or of a ModelPool, which has many models.
- name: wanted
  expression: "dyn(object.spec)"
- name: server
  expression: "has(variables.wanted.server) ? dyn(variables.wanted.server) : dyn({})"
- name: template
  expression: "has(variables.server.podTemplate) ? dyn(variables.server.podTemplate) : dyn({})"
- name: spec
  expression: "has(variables.template.spec) ? dyn(variables.template.spec) : dyn({})"
- name: jobTemplate
  expression: >-
    has(variables.wanted.hooks) && has(variables.wanted.hooks.retrain) && has(variables.wanted.hooks.retrain.jobTemplate)
    ? dyn(variables.wanted.hooks.retrain.jobTemplate.spec.template) : dyn({})
- name: job
  expression: "has(variables.jobTemplate.spec) ? dyn(variables.jobTemplate.spec) : dyn({})"
# The pods: `context` is the securityContext, `kept` whether it still has what the operator gives.
- name: pod
  expression: >-
    {'own': dyn(true), 'spec': variables.spec, 'path': dyn('spec.server.podTemplate'),
    'kept': dyn(!(has(variables.spec.securityContext) && variables.spec.securityContext == null)),
    'context': (has(variables.spec.securityContext) && variables.spec.securityContext != null) ? dyn(variables.spec.securityContext) : dyn({})}
- name: jobPod
  expression: >-
    {'own': dyn(false), 'spec': variables.job, 'path': dyn('spec.hooks.retrain.jobTemplate.spec.template'),
    'kept': dyn(false), 'context': (has(variables.job.securityContext) && variables.job.securityContext != null) ? dyn(variables.job.securityContext) : dyn({})}
- name: pods
  expression: >-
    ([variables.pod] + (has(variables.jobTemplate.spec) ? [variables.jobPod] : [])).map(p, {'own': p.own, 'spec': p.spec,
    'path': p.path, 'kept': p.kept, 'context': p.context,
    'account': (has(p.spec.serviceAccountName) && p.spec.serviceAccountName != null) && p.spec.serviceAccountName != '' ? dyn(p.spec.serviceAccountName)
    : (has(p.spec.serviceAccount) && p.spec.serviceAccount != null) && p.spec.serviceAccount != '' ? dyn(p.spec.serviceAccount) : dyn('default')})
# The containers with their pods. The one of the model server, and that of spec.server.container, are there whether the overlay names them or not; so is `fetch`.
- name: containers
  expression: >-
    (has(variables.spec.containers) && variables.spec.containers.exists(c, c.name == 'server') ? [] : [{'own': dyn(true),
    'pod': dyn(variables.pod), 'path': dyn('spec.server.podTemplate.spec.containers[server]'), 'c': dyn({'name': 'server'})}])
    + (!has(variables.server.container) || has(variables.spec.containers) && variables.spec.containers.exists(c, c.name == 'app') ? [] : [{'own': dyn(true),
    'pod': dyn(variables.pod), 'path': dyn('spec.server.podTemplate.spec.containers[app]'), 'c': dyn({'name': 'app'})}])
    {{- range $pod := list "pod" "jobPod" }}
    {{- range $kind := list "containers" "initContainers" "ephemeralContainers" }}
    + ((has(variables.{{ $pod }}.spec.{{ $kind }}) && variables.{{ $pod }}.spec.{{ $kind }} != null) ? dyn(variables.{{ $pod }}.spec.{{ $kind }}) : dyn([])).map(c, {
    'own': dyn(variables.{{ $pod }}.own && has(c.name) && ('{{ $kind }}' == 'containers' ? c.name == 'server' || c.name == 'app' && has(variables.server.container)
    : '{{ $kind }}' == 'initContainers' && c.name == 'fetch' && has(variables.server.container) && has(variables.wanted.model) && has(variables.wanted.model.storageUri))),
    'pod': dyn(variables.{{ $pod }}), 'c': dyn(c),
    'path': dyn(variables.{{ $pod }}.path + '.spec.{{ $kind }}[' + ((has(c.name) && c.name != null) ? c.name : '') + ']')})
    {{- end }}
    {{- end }}
- name: contained
  expression: >-
    variables.containers.map(c, {'own': c.own, 'path': c.path, 'c': c.c, 'pod': c.pod,
    'context': (has(c.c.securityContext) && c.c.securityContext != null) ? dyn(c.c.securityContext) : dyn({}),
    'kept': dyn(c.own && !(has(c.c.securityContext) && c.c.securityContext == null))})
- name: secured
  expression: >-
    variables.contained.map(c, {'path': c.path, 'context': c.context,
    'add': (has(c.context.capabilities) && c.context.capabilities != null) && (has(c.context.capabilities.add) && c.context.capabilities.add != null) ? dyn(c.context.capabilities.add) : dyn([]),
    'drop': !has(c.context.capabilities) ? (c.kept ? dyn(['ALL']) : dyn([])) : c.context.capabilities == null ? dyn([])
    : !has(c.context.capabilities.drop) ? (c.kept ? dyn(['ALL']) : dyn([]))
    : c.context.capabilities.drop == null ? dyn([]) : dyn(c.context.capabilities.drop),
    'escalation': has(c.context.allowPrivilegeEscalation) ? dyn(c.context.allowPrivilegeEscalation)
    : c.kept ? dyn(false) : dyn(null),
    'nonRoot': (has(c.context.runAsNonRoot) && c.context.runAsNonRoot != null) ? dyn(c.context.runAsNonRoot)
    : has(c.pod.context.runAsNonRoot) ? dyn(c.pod.context.runAsNonRoot) : c.pod.kept ? dyn(true) : dyn(null),
    'seccomp': dyn((has(c.context.seccompProfile) && c.context.seccompProfile != null)
    || (has(c.pod.context.seccompProfile) ? c.pod.context.seccompProfile != null : c.pod.kept))})
- name: contexts
  expression: >-
    variables.pods.map(p, {'path': dyn(p.path + '.spec.securityContext'), 'context': p.context, 'kept': p.kept})
    + variables.contained.map(c, {'path': dyn(c.path + '.securityContext'), 'context': c.context, 'kept': dyn(false)})
- name: volumes
  expression: >-
    ((has(variables.spec.volumes) && variables.spec.volumes != null) ? dyn(variables.spec.volumes) : dyn([])).map(v, {'v': dyn(v), 'pod': dyn(variables.pods[0]),
    'path': dyn('spec.server.podTemplate.spec.volumes[' + v.name + ']')})
    + ((has(variables.job.volumes) && variables.job.volumes != null) ? dyn(variables.job.volumes) : dyn([])).map(v, {'v': dyn(v), 'pod': dyn(variables.pods[1]),
    'path': dyn('spec.hooks.retrain.jobTemplate.spec.template.spec.volumes[' + ((has(v.name) && v.name != null) ? v.name : '') + ']')})
- name: annotations
  expression: >-
    []
    {{- range $template, $path := dict "template" "spec.server.podTemplate" "jobTemplate" "spec.hooks.retrain.jobTemplate.spec.template" }}
    {{- $meta := printf "variables.%s.metadata" $template }}
    + (has({{ $meta }}) && {{ $meta }} != null && has({{ $meta }}.annotations) && {{ $meta }}.annotations != null
    ? dyn({{ $meta }}.annotations) : dyn({})).map(a, a.startsWith('container.apparmor.security.beta.kubernetes.io/')
    && !({{ $meta }}.annotations[a] in [dyn(null), dyn(''), dyn('runtime/default')])
    && !{{ $meta }}.annotations[a].startsWith('localhost/'),
    '{{ $path }}.metadata.annotations[' + a + '] ends the confinement by AppArmor')
    {{- end }}
- name: capabilities
  expression: >-
    ['AUDIT_WRITE', 'CHOWN', 'DAC_OVERRIDE', 'FOWNER', 'FSETID', 'KILL', 'MKNOD', 'NET_BIND_SERVICE', 'SETFCAP', 'SETGID',
    'SETPCAP', 'SETUID', 'SYS_CHROOT']
- name: baseline
  expression: >-
    variables.annotations
    {{- range list "hostNetwork" "hostPID" "hostIPC" }}
    + variables.pods.map(p, (has(p.spec.{{ . }}) && p.spec.{{ . }} != null) && p.spec.{{ . }} != false, p.path + '.spec.{{ . }} is a namespace of the node')
    {{- end }}
    + variables.pods.map(p, (has(p.context.sysctls) && p.context.sysctls != null) && p.context.sysctls.exists(s, !has(s.name) || !(s.name in [
    'kernel.shm_rmid_forced', 'net.ipv4.ip_local_port_range', 'net.ipv4.ip_local_reserved_ports',
    'net.ipv4.ip_unprivileged_port_start', 'net.ipv4.ping_group_range', 'net.ipv4.tcp_fin_timeout',
    'net.ipv4.tcp_keepalive_intvl', 'net.ipv4.tcp_keepalive_probes', 'net.ipv4.tcp_keepalive_time', 'net.ipv4.tcp_rmem',
    'net.ipv4.tcp_syncookies', 'net.ipv4.tcp_wmem'])),
    p.path + '.spec.securityContext.sysctls has one that is not among the safe sysctls')
    + variables.volumes.map(v, (has(v.v.hostPath) && v.v.hostPath != null)
    && !(has(v.v.hostPath.path) && v.v.hostPath.path in variables.hostPaths), v.path + '.hostPath is a folder of the node')
    + (has(variables.wanted.model) && has(variables.wanted.model.cache) && has(variables.wanted.model.cache.hostPath)
    && !(variables.wanted.model.cache.hostPath in variables.hostPaths)
    && !variables.volumes.exists(v, v.pod.own && v.v.name == 'cache' && has(v.v.hostPath))
    ? ['spec.model.cache.hostPath is a folder of the node'] : [])
    {{- range list "seccompProfile" "appArmorProfile" }}
    + variables.contexts.map(c, (has(c.context.{{ . }}) && c.context.{{ . }} != null) && !(has(c.context.{{ . }}.type)
    ? c.context.{{ . }}.type in ['RuntimeDefault', 'Localhost'] : '{{ . }}' == 'seccompProfile' && c.kept),
    c.path + '.{{ . }} must be of type RuntimeDefault or Localhost')
    {{- end }}
    + variables.contexts.map(c, (has(c.context.seLinuxOptions) && c.context.seLinuxOptions != null) && (
    (has(c.context.seLinuxOptions.type) && !(c.context.seLinuxOptions.type in ['', 'container_t', 'container_init_t',
    'container_kvm_t', 'container_engine_t']))
    || (has(c.context.seLinuxOptions.user) && !(c.context.seLinuxOptions.user in [dyn(null), dyn('')]))
    || (has(c.context.seLinuxOptions.role) && !(c.context.seLinuxOptions.role in [dyn(null), dyn('')]))),
    c.path + '.seLinuxOptions may have container_t and its siblings as type, and no user or role')
    + variables.contexts.map(c, (has(c.context.windowsOptions) && c.context.windowsOptions != null) && (has(c.context.windowsOptions.hostProcess) && c.context.windowsOptions.hostProcess != null)
    && c.context.windowsOptions.hostProcess != false, c.path + '.windowsOptions.hostProcess runs on the node itself')
    + variables.contained.map(c, (has(c.context.privileged) && c.context.privileged != null) && c.context.privileged != false,
    c.path + '.securityContext.privileged gives the container all rights of the node')
    + variables.contained.map(c, (has(c.context.procMount) && c.context.procMount != null) && c.context.procMount != 'Default',
    c.path + '.securityContext.procMount must be Default')
    + variables.secured.map(c, !c.add.all(a, a in variables.capabilities),
    c.path + '.securityContext.capabilities.add has more than what containers get by default')
    + variables.containers.map(c, (has(c.c.ports) && c.c.ports != null) && c.c.ports.exists(q, has(q.hostPort) && !(q.hostPort in [dyn(null), dyn(0)])),
    c.path + '.ports has a hostPort')
    {{- range list "livenessProbe" "readinessProbe" "startupProbe" "lifecycle.postStart" "lifecycle.preStop" }}
    + variables.containers.map(c, {{ if hasPrefix "lifecycle" . }}(has(c.c.lifecycle) && c.c.lifecycle != null) && {{ end }}(has(c.c.{{ . }}) && c.c.{{ . }} != null) && (
    ((has(c.c.{{ . }}.httpGet) && c.c.{{ . }}.httpGet != null) && (has(c.c.{{ . }}.httpGet.host) && c.c.{{ . }}.httpGet.host != null) && c.c.{{ . }}.httpGet.host != '')
    || ((has(c.c.{{ . }}.tcpSocket) && c.c.{{ . }}.tcpSocket != null) && (has(c.c.{{ . }}.tcpSocket.host) && c.c.{{ . }}.tcpSocket.host != null) && c.c.{{ . }}.tcpSocket.host != '')),
    c.path + '.{{ . }} asks another host than the pod')
    {{- end }}
- name: restricted
  expression: >-
    []
    {{- range list "serviceAccountName" "serviceAccount" }}
    + variables.pods.map(p, (has(p.spec.{{ . }}) && p.spec.{{ . }} != null) && !(p.spec.{{ . }} in ['', 'default'])
    && !(p.spec.{{ . }} in variables.accounts), p.path + '.spec.{{ . }} names ' + string(p.spec.{{ . }}) + {{ include "modeldeploy.podPolicy.unlisted" (list "ServiceAccounts" "serviceAccounts") }})
    {{- end }}
    + variables.pods.map(p, !(p.account in variables.accounts) && !(has(p.spec.automountServiceAccountToken)
    ? p.spec.automountServiceAccountToken == false : p.own), p.path + '.spec.automountServiceAccountToken must be false')
    + variables.volumes.map(v, !(v.pod.account in variables.accounts) && (has(v.v.projected) && v.v.projected != null) && (has(v.v.projected.sources) && v.v.projected.sources != null)
    && v.v.projected.sources.exists(s, (has(s.serviceAccountToken) && s.serviceAccountToken != null)),
    v.path + '.projected mounts the token of a ServiceAccount')
    + variables.pods.map(p, (has(p.spec.nodeName) && p.spec.nodeName != null) && p.spec.nodeName != '',
    p.path + '.spec.nodeName passes by the scheduler, and what it keeps off a node')
    + variables.volumes.map(v, (has(v.v.image) && v.v.image != null) && (has(v.v.image.reference) && v.v.image.reference != null) && !(v.v.image.reference in variables.images
    || variables.beginnings.exists(b, v.v.image.reference.startsWith(b))), v.path + '.image names ' + string(v.v.image.reference)
    + {{ include "modeldeploy.podPolicy.unlisted" (list "images" "images") }})
    + (has(variables.wanted.model) && has(variables.wanted.model.mount) && has(variables.wanted.model.storageUri)
    && !variables.images.exists(i, variables.wanted.model.storageUri == 'oci://' + i)
    && !variables.beginnings.exists(b, variables.wanted.model.storageUri.startsWith('oci://' + b))
    && !variables.volumes.exists(v, v.pod.own && v.v.name == 'package' && has(v.v.image))
    ? ['spec.model.storageUri names ' + variables.wanted.model.storageUri.substring('oci://'.size())
    + {{ include "modeldeploy.podPolicy.unlisted" (list "images" "images") }}] : [])
    + variables.volumes.map(v, v.v.exists(k, v.v[k] != null && !(k in ['name', 'hostPath', 'configMap', 'csi', 'downwardAPI',
    'emptyDir', 'ephemeral', 'image', 'persistentVolumeClaim', 'projected', 'secret'])),
    v.path + ' is of a type that the standard refuses')
    + variables.pods.map(p, (has(p.context.runAsNonRoot) && p.context.runAsNonRoot != null) && p.context.runAsNonRoot != true,
    p.path + '.spec.securityContext.runAsNonRoot must be true')
    + variables.contexts.map(c, has(c.context.runAsUser) && c.context.runAsUser == 0, c.path + '.runAsUser is root')
    + variables.secured.map(c, c.escalation != false, c.path + '.securityContext.allowPrivilegeEscalation must be false')
    + variables.secured.map(c, c.nonRoot != true, c.path + '.securityContext.runAsNonRoot must be true, here or in the pod')
    + variables.secured.map(c, !c.seccomp, c.path + '.securityContext.seccompProfile must be given, here or in the pod')
    + variables.secured.map(c, !('ALL' in c.drop), c.path + '.securityContext.capabilities.drop must have ALL')
    + variables.secured.map(c, c.add.all(a, a in variables.capabilities) && !c.add.all(a, a == 'NET_BIND_SERVICE'),
    c.path + '.securityContext.capabilities.add may have NET_BIND_SERVICE and nothing else')
    + variables.containers.map(c, (has(c.c.image) && c.c.image != null) && !(c.c.image in variables.images
    || variables.beginnings.exists(b, c.c.image.startsWith(b))), c.path + '.image names ' + string(c.c.image)
    + {{ include "modeldeploy.podPolicy.unlisted" (list "images" "images") }})
    + variables.containers.map(c, c.own && c.c.name == 'app' && !has(c.c.image) && !(variables.server.container.image in variables.images
    || variables.beginnings.exists(b, variables.server.container.image.startsWith(b))),
    'spec.server.container.image names ' + variables.server.container.image
    + {{ include "modeldeploy.podPolicy.unlisted" (list "images" "images") }})
    + variables.containers.map(c, c.own && c.c.name == 'server' && !has(c.c.image) && has(variables.server.image) && variables.server.image != ''
    && !(variables.server.image in variables.images || variables.beginnings.exists(b, variables.server.image.startsWith(b))),
    'spec.server.image names ' + variables.server.image
    + {{ include "modeldeploy.podPolicy.unlisted" (list "images" "images") }})
- name: problems
  expression: >-
    variables.level == 'privileged' ? [] : variables.level == 'baseline' ? variables.baseline
    : variables.baseline + variables.restricted
{{- end -}}
