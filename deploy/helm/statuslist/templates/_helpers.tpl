{{- define "statuslist.name" -}}
{{- if contains .Chart.Name .Release.Name }}{{ .Release.Name | trunc 50 | trimSuffix "-" }}{{ else }}{{ printf "%s-%s" .Release.Name .Chart.Name | trunc 50 | trimSuffix "-" }}{{ end }}
{{- end }}

{{- define "statuslist.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: service
{{- end }}

{{- define "statuslist.labels" -}}
{{ include "statuslist.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{/* The reference of an image: (list . "statuslist"). */}}
{{- define "statuslist.image" -}}
{{- $root := index . 0 }}{{ $image := index $root.Values.images (index . 1) -}}
{{- if $image.digest }}{{ printf "%s@%s" $image.repository $image.digest }}{{ else }}{{ printf "%s:%s" $image.repository ($image.tag | default $root.Chart.AppVersion) }}{{ end }}
{{- end }}

{{/* What Pod Security "restricted" demands of a container, and a read-only root besides. */}}
{{- define "statuslist.contained" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: { drop: [ALL] }
{{- end }}

{{/* Refuses values that would lose data or cannot work. */}}
{{- define "statuslist.check" -}}
{{- $sqlite := eq .Values.store "sqlite" }}
{{- if and $sqlite (or (gt (int .Values.instances) 1) .Values.autoscaling.enabled) }}
  {{- fail (printf "SQLite serves one process, so `store: sqlite` allows one instance, not %d or an autoscaler: set `store: redis` or `store: postgres` for several" (int .Values.instances)) }}
{{- end }}
{{- range $key := list "storage-type" "storage-directory" "instance-directory" "key-directory" "serve-status-lists" }}
  {{- if hasKey $.Values.settings $key }}{{ fail (printf "settings.%s is set by the chart: leave it out" $key) }}{{ end }}
{{- end }}
{{- range $key := list "listen" "api-listen" "management-listen" }}
  {{- if hasKey (dig "server" dict $.Values.settings) $key }}{{ fail (printf "settings.server.%s is set by the chart: leave it out" $key) }}{{ end }}
{{- end }}
{{- if dig "sqlite" "path" "" .Values.settings }}{{ fail "settings.sqlite.path is set by the chart: leave it out" }}{{ end }}
{{- $sinks := dig "publish" "sinks" list .Values.settings }}
{{- if and (eq .Values.site.from "bucket") (not $sinks) }}{{ fail "`site.from: bucket` needs a bucket in settings.publish.sinks" }}{{ end }}
{{- if and (eq .Values.site.from "bucket") (or .Values.ingress.site.enabled .Values.gateway.site.enabled) }}
  {{- fail "with `site.from: bucket` no pod serves lists, so ingress.site and gateway.site must be off" }}
{{- end }}
{{- if not $sqlite }}
  {{- if not (get .Values.settings .Values.store) }}{{ fail (printf "`store: %s` needs settings.%s: the address, and password-file" .Values.store .Values.store) }}{{ end }}
  {{- if not (dig "status-list-pools" "" .Values.settings) }}{{ fail (printf "`store: %s` needs settings.status-list-pools, each with a signer and an API key" .Values.store) }}{{ end }}
  {{- range $id, $given := get .Values.settings "status-list-pools" }}
    {{- $pool := $given | default dict }}
    {{- if not (dig "signer" "" $pool) }}
      {{- fail (printf "pool %s has no signer: instances that share a store need the same signing key, from one of `secrets`" $id) }}
    {{- end }}
    {{- if not (or (dig "api-keys" "" $pool) (dig "api-key" "" $pool) (dig "api-key-file" "" $pool) (dig "oauth" "" $.Values.settings)) }}
      {{- fail (printf "pool %s has no API key: set api-key-file to a file of one of `secrets`, or api-keys to hashes" $id) }}
    {{- end }}
  {{- end }}
{{- end }}
{{- if and .Values.prometheusRule.enabled (not .Values.prometheusRule.rules) }}
  {{- fail "prometheusRule needs the rules: --set-file prometheusRule.rules=deploy/observability/rules.yml" }}
{{- end }}
{{- end }}

{{/* The whole settings file. */}}
{{- define "statuslist.settings" -}}
{{- $folder := "/var/lib/statuslist" }}
{{- $server := dict "listen" "0.0.0.0:8090" "management-listen" "0.0.0.0:9090" }}
{{- $settings := deepCopy .Values.settings }}
{{- if eq .Values.site.from "nginx" }}
  {{- /* nginx in the same pod, besides those that the values name. */}}
  {{- $proxies := append (dig "server" "trusted-proxies" list $settings) "127.0.0.1/32" }}
  {{- $_ := set $settings "server" (set ($settings.server | default dict) "trusted-proxies" $proxies) }}
{{- end }}
{{- $ours := dict
  "storage-type" .Values.store
  "storage-directory" (printf "%s/public" $folder)
  "instance-directory" (printf "%s/data/instance" $folder)
  "key-directory" (printf "%s/data/keys" $folder)
  "serve-status-lists" false
  "server" $server
  "log" (dict "format" "json") }}
{{- if eq .Values.store "sqlite" }}{{ $_ := set $ours "sqlite" (dict "path" (printf "%s/data/store/statuslist.db" $folder)) }}{{ end }}
{{- toYaml (mergeOverwrite $ours $settings) }}
{{- end }}

{{/* One line of nginx' settings replaced: (dict "text" … "from" … "to" …). Fails if the file does not have it. */}}
{{- define "statuslist.replaced" -}}
{{- if not (contains .from .text) }}{{ fail (printf "nginx/conf.d/status_lists.conf has no line `%s`" .from) }}{{ end }}
{{- replace .from .to .text }}
{{- end }}

{{- define "statuslist.nginx" -}}
{{- $text := .Files.Get "files/status_lists.conf" }}
{{- $path := regexReplaceAll "/+$" (urlParse (get .Values.settings "public-url")).path "" }}
{{- range list
  (list "listen 127.0.0.1:8091;" "listen 8091;")
  (list "/var/log/nginx/status_lists.log" "/dev/stdout")
  (list "/var/log/nginx/status_lists_api.log" "/dev/stdout")
  (list "set $public_path /lists;" (printf "set $public_path %s;" ($path | default "\"\"")))
  (list "set $max_age 10;" (printf "set $max_age %d;" (int .Values.site.maxAge)))
  (list "set $rate_limit on;" (printf "set $rate_limit %s;" (ternary "on" "off" .Values.site.rateLimit))) }}
  {{- $text = include "statuslist.replaced" (dict "text" $text "from" (index . 0) "to" (index . 1)) }}
{{- end }}
{{- $text }}
{{- end }}
