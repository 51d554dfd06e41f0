{{- /* What a schema cannot say: values that do not fit together. */ -}}

{{- define "stopper.checks" -}}
{{- $keys := .Values.keys -}}
{{- $given := list -}}
{{- if $keys.existingSecret }}{{ $given = append $given "keys.existingSecret" }}{{ end -}}
{{- if $keys.toml }}{{ $given = append $given "keys.toml" }}{{ end -}}
{{- if $keys.allowOpen }}{{ $given = append $given "keys.allowOpen" }}{{ end -}}
{{- if ne (len $given) 1 -}}
{{- fail (printf "keys: give one of existingSecret, toml and allowOpen, not %s" (default "none" (join " and " $given))) -}}
{{- end -}}
{{- if and .Values.artifacts (not .Values.artifactVolume) -}}
{{- fail "artifactVolume: give the volume in which the artifacts lie, such as a persistentVolumeClaim" -}}
{{- end -}}
{{- if and .Values.redis.url .Values.redis.existingSecret.name -}}
{{- fail "redis: give url or existingSecret.name, not both" -}}
{{- end -}}
{{- $many := or .Values.autoscaling.enabled (gt (int .Values.replicas) 1) (gt (int (default 1 .Values.settings.workers)) 1) -}}
{{- if and $many (not .Values.redis.url) (not .Values.redis.existingSecret.name) -}}
{{- fail "redis: several replicas or workers need a shared store; give redis.url or redis.existingSecret.name, or replicas: 1 without autoscaling" -}}
{{- end -}}
{{- if and .Values.autoscaling.enabled (gt (int .Values.autoscaling.minReplicas) (int .Values.autoscaling.maxReplicas)) -}}
{{- fail "autoscaling: minReplicas is above maxReplicas" -}}
{{- end -}}
{{- if eq .Values.layout "pod" -}}
{{- if not (and .Values.vllm.model .Values.vllm.reasoningParser .Values.artifacts) -}}
{{- fail "layout pod: give vllm.model, vllm.reasoningParser and one of artifacts; the engine is started with the first" -}}
{{- end -}}
{{- if .Values.upstreams -}}
{{- fail "upstreams: layout pod has its own engine in each pod; leave upstreams out, or take layout separate" -}}
{{- end -}}
{{- else if not (or .Values.artifacts .Values.upstreams) -}}
{{- fail "artifacts: give artifacts with artifactVolume, upstreams, or both" -}}
{{- end -}}
{{- $monitor := .Values.monitoring.serviceMonitor -}}
{{- if and $monitor.enabled (not $keys.allowOpen) (not $monitor.bearerTokenSecret.name) -}}
{{- fail "monitoring.serviceMonitor.bearerTokenSecret: with keys, /metrics wants one of scope read; name the Secret that holds it" -}}
{{- end -}}
{{- end -}}
