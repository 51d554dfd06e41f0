{{- define "stopper.container" -}}
name: stopper
image: {{ include "stopper.image" (dict "image" .Values.image "version" .Chart.AppVersion) }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
args: [serve, --config, /etc/stopper/settings/settings.toml]
{{- if or .Values.redis.existingSecret.name .Values.extraEnv }}
env:
  {{- with .Values.redis.existingSecret }}
  {{- if .name }}
  - name: STOPPER_REDIS
    valueFrom:
      secretKeyRef:
        name: {{ .name }}
        key: {{ .key }}
  {{- end }}
  {{- end }}
  {{- with .Values.extraEnv }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}
ports:
  - name: http
    containerPort: 8080
startupProbe:
  httpGet: {path: /livez, port: http}
  periodSeconds: 2
  timeoutSeconds: 3
  failureThreshold: 60
livenessProbe:
  httpGet: {path: /livez, port: http}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 6
readinessProbe:
  httpGet: {path: /readyz, port: http}
  periodSeconds: 3
  timeoutSeconds: 3
  failureThreshold: 2
{{- if gt (int .Values.preStopSeconds) 0 }}
lifecycle:
  preStop:
    exec:
      command: [sleep, {{ .Values.preStopSeconds | quote }}]
{{- end }}
resources:
  {{- toYaml .Values.resources | nindent 2 }}
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  readOnlyRootFilesystem: true
  allowPrivilegeEscalation: false
  capabilities:
    drop: [ALL]
volumeMounts:
  - {name: settings, mountPath: /etc/stopper/settings, readOnly: true}
  - {name: tmp, mountPath: /tmp}
  {{- if not .Values.keys.allowOpen }}
  - {name: keys, mountPath: /etc/stopper/keys, readOnly: true}
  {{- end }}
  {{- if .Values.artifacts }}
  - {name: artifacts, mountPath: /artifacts, readOnly: true}
  {{- end }}
  {{- range $index, $upstream := .Values.upstreams }}
  {{- if $upstream.apiKeySecret }}
  - {name: upstream-{{ $index }}, mountPath: /etc/stopper/upstream-{{ $index }}, readOnly: true}
  {{- end }}
  {{- end }}
  {{- with .Values.extraVolumeMounts }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end -}}

{{- /* A restartable init container: it is there before the sidecar begins, and ends after it. */ -}}
{{- define "stopper.engine" -}}
{{- $vllm := .Values.vllm -}}
name: vllm
image: {{ include "stopper.image" (dict "image" $vllm.image "version" .Chart.AppVersion) }}
imagePullPolicy: {{ $vllm.image.pullPolicy }}
restartPolicy: Always
args:
  - {{ $vllm.model | quote }}
  - --served-model-name
  - {{ coalesce $vllm.servedModelName (first .Values.artifacts).model $vllm.model | quote }}
  - --reasoning-parser
  - {{ $vllm.reasoningParser | quote }}
  - --additional-config
  - {{ include "stopper.plugin" . | quote }}
  {{- range $vllm.args }}
  - {{ . | quote }}
  {{- end }}
env:
  - {name: HOME, value: /cache}
  {{- with $vllm.env }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
ports:
  - name: engine
    containerPort: 8000
startupProbe:
  httpGet: {path: /health, port: engine}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: {{ mul (int $vllm.startupMinutes) 6 }}
livenessProbe:
  httpGet: {path: /health, port: engine}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 6
readinessProbe:
  httpGet: {path: /health, port: engine}
  periodSeconds: 5
  timeoutSeconds: 5
  failureThreshold: 3
resources:
  {{- toYaml $vllm.resources | nindent 2 }}
securityContext:
  {{- toYaml $vllm.securityContext | nindent 2 }}
volumeMounts:
  - {name: artifacts, mountPath: /artifacts, readOnly: true}
  - {name: cache, mountPath: /cache}
  - {name: shm, mountPath: /dev/shm}
  {{- if $vllm.modelVolume }}
  - {name: models, mountPath: /models, readOnly: true}
  {{- end }}
{{- end -}}
