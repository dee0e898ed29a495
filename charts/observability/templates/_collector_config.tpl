{{/* The memory limit is judged first, so that nothing is taken in that cannot be held; batches are made last. */}}
{{- define "observability.collectorConfig" -}}
{{- $collector := .Values.collector -}}
{{- $exporters := list -}}
{{- if $collector.otlpEndpoint }}{{ $exporters = append $exporters "otlp_http" }}{{ end -}}
{{- if ne $collector.debugVerbosity "none" }}{{ $exporters = append $exporters "debug" }}{{ end -}}
{{- if not $exporters }}{{ fail "collector: set otlpEndpoint or a debugVerbosity, else traces go nowhere" }}{{ end -}}
extensions:
  health_check:
    endpoint: 0.0.0.0:13133
receivers:
  otlp:
    protocols:
      grpc:
        endpoint: 0.0.0.0:4317
      http:
        endpoint: 0.0.0.0:4318
processors:
  memory_limiter:
    check_interval: 1s
    limit_percentage: 80
    spike_limit_percentage: 20
  batch:
    send_batch_size: 2048
    timeout: 1s
exporters:
  {{- if $collector.otlpEndpoint }}
  otlp_http:
    endpoint: {{ $collector.otlpEndpoint }}
    {{- with $collector.otlpHeaders }}
    headers:
      {{- toYaml . | nindent 6 }}
    {{- end }}
    sending_queue:
      queue_size: 1000
    retry_on_failure:
      max_elapsed_time: 300s
  {{- end }}
  {{- if ne $collector.debugVerbosity "none" }}
  debug:
    verbosity: {{ $collector.debugVerbosity }}
  {{- end }}
service:
  extensions: [health_check]
  telemetry:
    metrics:
      readers:
        - pull:
            exporter:
              prometheus:
                host: 0.0.0.0
                port: 8888
  pipelines:
    traces:
      receivers: [otlp]
      processors: [memory_limiter, batch]
      exporters: [{{ join ", " $exporters }}]
{{- end -}}
