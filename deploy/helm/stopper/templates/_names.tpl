{{- /* Names and labels. */ -}}

{{- define "stopper.fullname" -}}
{{- if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 52 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 52 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "stopper.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "stopper.labels" -}}
{{ include "stopper.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "stopper.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "stopper.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "stopper.keysSecret" -}}
{{- default (printf "%s-keys" (include "stopper.fullname" .)) .Values.keys.existingSecret -}}
{{- end -}}

{{- define "stopper.image" -}}
{{- printf "%s:%s" .image.repository (default .version .image.tag) -}}
{{- end -}}
