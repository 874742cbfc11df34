{{- /* Templates of the pods, used by the StatefulSets and the Deployment, or by the Jobs of a JobSet. */ -}}

{{- /* Labels of a component. Argument: component. */ -}}
{{- define "sapex.labels" -}}
app.kubernetes.io/name: sapex
app.kubernetes.io/component: {{ . }}
{{- end }}

{{- /* Probes of a container. Argument: name of its admin port. */ -}}
{{- define "sapex.probes" -}}
startupProbe:
  httpGet: {path: /healthz, port: {{ . }}}
  periodSeconds: 2
  failureThreshold: 60
livenessProbe:
  httpGet: {path: /healthz, port: {{ . }}}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 6
readinessProbe:
  httpGet: {path: /readyz, port: {{ . }}}
  periodSeconds: 5
  timeoutSeconds: 5
{{- end }}

{{- /* Fields that all containers have. Argument: (list context container resources data-volume). */ -}}
{{- define "sapex.container.rest" -}}
{{- $context := index . 0 }}
{{- $container := index . 1 }}
{{- with include "sapex.env" (list $context $container) }}
env:
{{- . | nindent 0 }}
{{- end }}
resources:
  {{- index . 2 | toYaml | nindent 2 }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities:
    drop: [ALL]
volumeMounts:
{{- if $context.Values.tls.enabled }}
- {name: {{ eq $container "evaluator" | ternary "tls-evaluator" "tls" }}, mountPath: /etc/sapex/tls, readOnly: true}
{{- end }}
- {name: config, mountPath: /etc/sapex/cluster.toml, subPath: cluster.toml, readOnly: true}
{{- with index . 3 }}
- {name: {{ . }}, mountPath: /runs}
{{- end }}
- {name: tmp, mountPath: /tmp}
{{- end }}

{{- /* Service account and restart policy of a pod. Argument: context. */ -}}
{{- define "sapex.pod.identity" -}}
serviceAccountName: sapex
automountServiceAccountToken: false
enableServiceLinks: false
{{- if .Values.jobset.enabled }}
restartPolicy: Never
{{- end }}
{{- end }}

{{- /* Volumes that all pods have. Argument: (list context secret). */ -}}
{{- define "sapex.pod.volumes" -}}
- name: config
  configMap:
    name: {{ include "sapex.config.name" (index . 0) }}
- name: tmp
  emptyDir: {medium: Memory, sizeLimit: 64Mi}
{{- if (index . 0).Values.tls.enabled }}
- name: tls
  secret:
    secretName: {{ index . 1 }}
    # Owner and group can read the files; the pod's user belongs to the group.
    defaultMode: 0440
{{- end }}
{{- end }}

{{- define "sapex.pod.learner" -}}
metadata:
  labels:
    {{- include "sapex.labels" "learner" | nindent 4 }}
spec:
  {{- include "sapex.pod.identity" . | nindent 2 }}
  # The learner and the evaluator stop one after the other. Each may take run.grace (20 s).
  terminationGracePeriodSeconds: 60
  securityContext:
    runAsNonRoot: true
    runAsUser: 65532
    runAsGroup: 65532
    fsGroup: 65532
    fsGroupChangePolicy: OnRootMismatch
    seccompProfile:
      type: RuntimeDefault
  {{- if .Values.gpu.enabled }}
  tolerations:
  - {key: nvidia.com/gpu, operator: Exists, effect: NoSchedule}
  {{- end }}
  initContainers:
  # A sidecar of the learner, because both share the run directory, whose volume only one node may mount. It stops after
  # the learner.
  - name: evaluator
    image: {{ .Values.registry }}/actor-node:{{ .Values.tag }}
    restartPolicy: Always
    args: [--config, /etc/sapex/cluster.toml, --evaluate, --run-dir, /runs/cluster]
    ports:
    - name: admin-evaluator
      containerPort: 9101
    {{- include "sapex.probes" "admin-evaluator" | nindent 4 }}
    {{- include "sapex.container.rest" (list . "evaluator" .Values.evaluator.resources "runs") | nindent 4 }}
  containers:
  - name: learner
    image: {{ .Values.registry }}/{{ .Values.gpu.enabled | ternary "learner-cuda" "learner" }}:{{ .Values.tag }}
    args: [--config, /etc/sapex/cluster.toml, --run-dir, /runs/cluster, --resume]
    ports:
    - name: weights
      containerPort: 5600
    - name: admin
      containerPort: 9100
    {{- include "sapex.probes" "admin" | nindent 4 }}
    {{- $resources := .Values.gpu.enabled | ternary .Values.gpu.resources .Values.learner.resources }}
    {{- include "sapex.container.rest" (list . "learner" $resources "runs") | nindent 4 }}
  volumes:
  {{- include "sapex.pod.volumes" (list . "learner-tls") | nindent 2 }}
  {{- if .Values.tls.enabled }}
  # The evaluator uses the actors' certificate, because it is a client like an actor and not a learner.
  - name: tls-evaluator
    secret:
      secretName: actor-tls
      defaultMode: 0440
  {{- end }}
  {{- if .Values.jobset.enabled }}
  - name: runs
    persistentVolumeClaim:
      claimName: runs
  {{- end }}
{{- end }}

{{- define "sapex.pod.replay" -}}
metadata:
  labels:
    {{- include "sapex.labels" "replay" | nindent 4 }}
spec:
  {{- include "sapex.pod.identity" . | nindent 2 }}
  terminationGracePeriodSeconds: 45
  securityContext:
    runAsNonRoot: true
    runAsUser: 65532
    runAsGroup: 65532
    fsGroup: 65532
    fsGroupChangePolicy: OnRootMismatch
    seccompProfile:
      type: RuntimeDefault
  affinity:
    podAntiAffinity:
      preferredDuringSchedulingIgnoredDuringExecution:
      - weight: 100
        podAffinityTerm:
          topologyKey: kubernetes.io/hostname
          labelSelector:
            matchLabels:
              {{- include "sapex.labels" "replay" | nindent 14 }}
  containers:
  - name: replay
    image: {{ .Values.registry }}/replay-server:{{ .Values.tag }}
    # The index is the number at the end of the pod's name.
    args: [--config, /etc/sapex/cluster.toml, --index, auto, --run-dir, /runs/cluster]
    ports:
    - name: replay
      containerPort: 5601
    - name: admin
      containerPort: 9100
    {{- include "sapex.probes" "admin" | nindent 4 }}
    {{- include "sapex.container.rest" (list . "replay" .Values.replay.resources "rows") | nindent 4 }}
  volumes:
  {{- include "sapex.pod.volumes" (list . "replay-tls") | nindent 2 }}
  {{- if .Values.jobset.enabled }}
  # Pods of a Job have no volume claim templates. The rows are deleted with the run.
  - name: rows
    emptyDir: {}
  {{- end }}
{{- end }}

{{- define "sapex.pod.actor" -}}
metadata:
  labels:
    {{- include "sapex.labels" "actor" | nindent 4 }}
spec:
  {{- include "sapex.pod.identity" . | nindent 2 }}
  priorityClassName: sapex-actor
  terminationGracePeriodSeconds: 30
  securityContext:
    runAsNonRoot: true
    runAsUser: 65532
    runAsGroup: 65532
    fsGroup: 65532
    seccompProfile:
      type: RuntimeDefault
  # Spot nodes, which may be removed at any time, are suitable: an actor keeps no state.
  tolerations:
  - {key: cloud.google.com/gke-spot, operator: Equal, value: "true", effect: NoSchedule}
  - {key: kubernetes.azure.com/scalesetpriority, operator: Equal, value: spot, effect: NoSchedule}
  - {key: sapex/spot, operator: Exists, effect: NoSchedule}
  topologySpreadConstraints:
  - maxSkew: 1
    topologyKey: kubernetes.io/hostname
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels:
        {{- include "sapex.labels" "actor" | nindent 8 }}
  containers:
  - name: actor
    image: {{ .Values.registry }}/actor-node:{{ .Values.tag }}
    args: [--config, /etc/sapex/cluster.toml]
    ports:
    - name: admin
      containerPort: 9100
    {{- include "sapex.probes" "admin" | nindent 4 }}
    {{- include "sapex.container.rest" (list . "actor" .Values.actor.resources "") | nindent 4 }}
  volumes:
  {{- include "sapex.pod.volumes" (list . "actor-tls") | nindent 2 }}
{{- end }}
