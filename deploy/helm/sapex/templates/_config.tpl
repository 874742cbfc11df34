{{- define "sapex.cluster.toml" -}}
# Settings of the run for all of its processes (docs/configuration.md). A key that is missing here has its default or,
# for the environments of config/tuned, its tuned value.
[cluster]
env = {{ .Values.env | toJson }}

# Addresses of the pods, which are named only here. One entry per replica of the StatefulSet replay, in order.
[endpoints]
replay = [{{ range $index := until (int .Values.replay.replicas) }}{{ if $index }}, {{ end }}"tcp://replay-{{ $index }}.replay:5601"{{ end }}]
weights = "tcp://learner-0.learner:5600"
bind = "0.0.0.0"

[run]
# Value of the label `run` of all metrics.
name = {{ .Values.run | toJson }}
# The run has no end, even if the tuned settings define one. If an end is set here, the learner continues to serve its
# last weights after it.
env_steps = 0
target_return = inf
when_done = "wait"
save_replay = true

[telemetry]
admin = "0.0.0.0:9100"
{{ end }}

{{- /* Name of the ConfigMap, as kustomize generates it. Its digest makes a changed setting restart the pods. */ -}}
{{- define "sapex.config.name" -}}
{{- $content := dict "kind" "ConfigMap" "name" "" "data" (dict "cluster.toml" (include "sapex.cluster.toml" .)) -}}
{{- $digest := $content | toJson | sha256sum | trunc 10 -}}
sapex-{{ $digest | replace "0" "g" | replace "1" "h" | replace "3" "k" | replace "a" "m" | replace "e" "t" }}
{{- end }}

{{- /* Environment variables of a container, which override the file. Argument: (list context container). */ -}}
{{- define "sapex.env" -}}
{{- $values := (index . 0).Values -}}
{{- $container := index . 1 -}}
{{- if eq $container "evaluator" }}
# The learner uses port 9100, and the containers of a pod share one address.
- {name: SAPEX__TELEMETRY__ADMIN, value: "0.0.0.0:9101"}
{{- end }}
{{- if and $values.gpu.enabled (eq $container "learner") }}
- {name: SAPEX__LEARNER__DEVICE, value: "cuda:0"}
{{- end }}
{{- if $values.tls.enabled }}
- {name: SAPEX__TLS__CA, value: /etc/sapex/tls/ca.crt}
- {name: SAPEX__TLS__CERT, value: /etc/sapex/tls/tls.crt}
- {name: SAPEX__TLS__KEY, value: /etc/sapex/tls/tls.key}
{{- end }}
{{- if $values.jobset.enabled }}
{{- $replay := list }}
{{- range $index := until (int $values.replay.replicas) }}
{{- $replay = append $replay (printf `"tcp://sapex-replay-0-%d.sapex:5601"` $index) }}
{{- end }}
- {name: SAPEX__ENDPOINTS__REPLAY, value: '[{{ join ", " $replay }}]'}
- {name: SAPEX__ENDPOINTS__WEIGHTS, value: "tcp://sapex-learner-0-0.sapex:5600"}
- {name: SAPEX__RUN__ENV_STEPS, value: {{ $values.jobset.envSteps | int64 | toString | quote }}}
- {name: SAPEX__RUN__WHEN_DONE, value: exit}
{{- end }}
{{- range $key, $value := $values.settings }}
- name: SAPEX__{{ $key | replace "." "__" | upper }}
  value: {{ if kindIs "string" $value }}{{ $value | quote }}{{ else }}{{ $value | toJson | quote }}{{ end }}
{{- end }}
{{- end }}
