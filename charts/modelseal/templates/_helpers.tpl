{{- define "modelseal.name" -}}
{{- if contains "modelseal" .Release.Name }}{{ .Release.Name | trunc 50 | trimSuffix "-" }}{{ else }}{{ printf "%s-modelseal" .Release.Name | trunc 50 | trimSuffix "-" }}{{ end }}
{{- end }}

{{- define "modelseal.account" -}}
{{- .Values.serviceAccount.name | default (include "modelseal.name" .) }}
{{- end }}

{{- define "modelseal.selector" -}}
app.kubernetes.io/name: modelseal-operator
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "modelseal.labels" -}}
{{ include "modelseal.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: modelseal
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- /* image: takes [root, image] */ -}}
{{- define "modelseal.image" -}}
{{- $root := index . 0 }}{{ $image := index . 1 }}
{{- $registry := $root.Values.imageRegistry | default $image.registry }}
{{- $name := ternary (printf "%s/%s" $registry $image.repository) $image.repository (ne $registry "") }}
{{- if $image.digest }}{{ $name }}@{{ $image.digest }}{{ else }}{{ $name }}:{{ $image.tag | default $root.Chart.AppVersion }}{{ end }}
{{- end }}

{{- /* a=b,c=d */ -}}
{{- define "modelseal.pairs" -}}
{{- $found := list }}
{{- range $key, $value := . }}{{ $found = append $found (printf "%s=%s" $key $value) }}{{ end }}
{{- join "," $found }}
{{- end }}

{{- /* whole numbers, which YAML may have made floats of */ -}}
{{- define "modelseal.numbers" -}}
{{- $found := list }}
{{- range . }}{{ $found = append $found (printf "%d" (int64 .)) }}{{ end }}
{{- join "," $found }}
{{- end }}
