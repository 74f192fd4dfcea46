{{/* The pod of an instance, the same for the Deployment and the StatefulSet. */}}
{{- define "statuslist.pod" -}}
metadata:
  labels: {{- include "statuslist.labels" . | nindent 4 }}
  annotations:
    # A change of the settings restarts the pods, so that an upgrade and its rollback take effect as a whole.
    checksum/settings: {{ printf "%s%s" (include "statuslist.settings" .) (include "statuslist.nginx" .) | sha256sum }}
    {{- with .Values.podAnnotations }}{{ toYaml . | nindent 4 }}{{ end }}
spec:
  automountServiceAccountToken: false
  enableServiceLinks: false
  {{- with .Values.serviceAccountName }}
  serviceAccountName: {{ . }}
  {{- end }}
  {{- with .Values.imagePullSecrets }}
  imagePullSecrets: {{- toYaml . | nindent 4 }}
  {{- end }}
  # Longer than `shutdown-grace`, so that pending revocations are published and references given back.
  terminationGracePeriodSeconds: 60
  securityContext:
    runAsNonRoot: true
    runAsUser: 10001
    runAsGroup: 10001
    fsGroup: 10001
    fsGroupChangePolicy: OnRootMismatch
    seccompProfile: { type: RuntimeDefault }
  containers:
    - name: statuslist
      image: {{ include "statuslist.image" (list . "statuslist") }}
      imagePullPolicy: {{ .Values.imagePullPolicy }}
      args: [--config, /etc/statuslist/settings/statuslist.yaml, serve]
      {{- with .Values.env }}
      env: {{- toYaml . | nindent 8 }}
      {{- end }}
      ports:
        - { name: service, containerPort: 8090 }
        - { name: metrics, containerPort: 9090 }
      startupProbe: { httpGet: { path: /health/live, port: service }, periodSeconds: 2, failureThreshold: 60 }
      livenessProbe: { httpGet: { path: /health/live, port: service }, periodSeconds: 10, timeoutSeconds: 5, failureThreshold: 6 }
      readinessProbe: { httpGet: { path: /health/ready, port: service }, periodSeconds: 5, timeoutSeconds: 5 }
      resources: {{- toYaml .Values.resources.statuslist | nindent 8 }}
      securityContext: {{- include "statuslist.contained" . | nindent 8 }}
      volumeMounts:
        - { name: settings, mountPath: /etc/statuslist/settings, readOnly: true }
        {{- range .Values.secrets }}
        - { name: {{ printf "secret-%s" . }}, mountPath: {{ printf "/etc/statuslist/secrets/%s" . }}, readOnly: true }
        {{- end }}
        - { name: data, mountPath: /var/lib/statuslist/data, subPath: data }
        {{- include "statuslist.lists" . | nindent 8 }}
        - { name: tmp, mountPath: /tmp }
    {{- if eq .Values.site.from "nginx" }}
    - name: nginx
      image: {{ include "statuslist.image" (list . "nginx") }}
      imagePullPolicy: {{ .Values.imagePullPolicy }}
      ports:
        - { name: site, containerPort: 8080 }
        - { name: api, containerPort: 8091 }
      readinessProbe: { tcpSocket: { port: site }, periodSeconds: 5 }
      livenessProbe: { tcpSocket: { port: site }, periodSeconds: 10, failureThreshold: 6 }
      resources: {{- toYaml .Values.resources.nginx | nindent 8 }}
      securityContext:
        runAsUser: 33
        runAsGroup: 33
        {{- include "statuslist.contained" . | nindent 8 }}
      volumeMounts:
        - { name: nginx, mountPath: /etc/statuslist/nginx/conf.d, readOnly: true }
        {{- include "statuslist.lists" . | replace " }" ", readOnly: true }" | nindent 8 }}
        - { name: nginx-tmp, mountPath: /tmp }
    {{- end }}
  volumes:
    - name: settings
      configMap: { name: {{ include "statuslist.name" . }}, items: [{ key: statuslist.yaml, path: statuslist.yaml }] }
    {{- range .Values.secrets }}
    - name: {{ printf "secret-%s" . }}
      secret: { secretName: {{ . }}, defaultMode: 0440 }
    {{- end }}
    - { name: tmp, emptyDir: {} }
    {{- if eq .Values.store "sqlite" }}
    - name: data
      persistentVolumeClaim: { claimName: {{ include "statuslist.name" . }} }
    {{- end }}
    {{- if eq .Values.site.from "nginx" }}
    - name: nginx
      configMap: { name: {{ include "statuslist.name" . }}, items: [{ key: status_lists.conf, path: status_lists.conf }] }
    - { name: nginx-tmp, emptyDir: {} }
    {{- if ne .Values.store "sqlite" }}
    - name: lists
      persistentVolumeClaim: { claimName: {{ .Values.site.claim.existing | default (printf "%s-lists" (include "statuslist.name" .)) }} }
    {{- end }}
    {{- end }}
  {{- with .Values.nodeSelector }}
  nodeSelector: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.tolerations }}
  tolerations: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.affinity }}
  affinity: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- if ne .Values.store "sqlite" }}
  topologySpreadConstraints:
    - maxSkew: 1
      topologyKey: kubernetes.io/hostname
      whenUnsatisfiable: ScheduleAnyway
      labelSelector:
        matchLabels: {{- include "statuslist.selector" . | nindent 10 }}
  {{- end }}
{{- end }}

{{/* The folder of the lists: shared by instances that serve it with nginx, else in the instance's own claim. */}}
{{- define "statuslist.lists" -}}
{{- if and (ne .Values.store "sqlite") (eq .Values.site.from "nginx") -}}
- { name: lists, mountPath: /var/lib/statuslist/public/lists, subPath: lists }
{{- else -}}
- { name: data, mountPath: /var/lib/statuslist/public/lists, subPath: lists }
{{- end }}
{{- end }}

{{/* What the pods of `helm test` have in common. */}}
{{- define "statuslist.test-pod" -}}
restartPolicy: Never
automountServiceAccountToken: false
enableServiceLinks: false
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  seccompProfile: { type: RuntimeDefault }
{{- with .Values.imagePullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
