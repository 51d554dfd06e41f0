{{- /* What the sidecar reads and how long it may take to end. */ -}}

{{- define "stopper.settings" -}}
{{- $settings := deepCopy .Values.settings -}}
{{- if .Values.artifacts -}}
{{- $artifacts := list -}}
{{- range .Values.artifacts -}}
{{- $one := dict "folder" (printf "/artifacts/%s" .folder) -}}
{{- if .model }}{{ $_ := set $one "model" .model }}{{ end -}}
{{- $artifacts = append $artifacts $one -}}
{{- end -}}
{{- $_ := set $settings "artifacts" $artifacts -}}
{{- $_ := set $settings "artifact_root" "/artifacts" -}}
{{- end -}}
{{- $upstreams := list -}}
{{- if eq .Values.layout "pod" -}}
{{- $upstreams = list (dict "url" "http://127.0.0.1:8000") -}}
{{- end -}}
{{- range $index, $upstream := .Values.upstreams -}}
{{- $one := dict "url" $upstream.url -}}
{{- if $upstream.apiKeySecret }}{{ $_ := set $one "api_key_file" (printf "/etc/stopper/upstream-%d/key" $index) }}{{ end -}}
{{- $upstreams = append $upstreams $one -}}
{{- end -}}
{{- if $upstreams }}{{ $_ := set $settings "upstreams" $upstreams }}{{ end -}}
{{- if .Values.redis.url }}{{ $_ := set $settings "redis" .Values.redis.url }}{{ end -}}
{{- if .Values.keys.allowOpen -}}
{{- $_ := set $settings "allow_open" true -}}
{{- else -}}
{{- $_ := set $settings "keys_file" "/etc/stopper/keys/keys.toml" -}}
{{- end -}}
{{- toToml $settings | trim -}}
{{- end -}}

{{- define "stopper.graceSeconds" -}}
{{- $drain := 60 -}}
{{- if hasKey .Values.settings "limits" -}}
{{- $drain = default 60 .Values.settings.limits.drain_s -}}
{{- end -}}
{{- $engine := ternary 30 0 (eq .Values.layout "pod") -}}
{{- add (int .Values.preStopSeconds) (int (ceil $drain)) 15 $engine -}}
{{- end -}}

{{- define "stopper.plugin" -}}
{{- $plugin := deepCopy .Values.vllm.plugin -}}
{{- $_ := set $plugin "artifact" (printf "/artifacts/%s" (first .Values.artifacts).folder) -}}
{{- toJson (dict "stopper" $plugin) -}}
{{- end -}}
