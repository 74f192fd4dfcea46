-- Prints what one run of wrk came to as a line that bench/load.py finds: "report" and key=value pairs. Times are microseconds.

function done(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format(
    "report requests=%d duration=%d bytes=%d status=%d connect=%d read=%d write=%d timeout=%d p50=%d p90=%d p99=%d p999=%d max=%d\n",
    summary.requests, summary.duration, summary.bytes,
    errors.status, errors.connect, errors.read, errors.write, errors.timeout,
    latency:percentile(50), latency:percentile(90), latency:percentile(99), latency:percentile(99.9), latency.max))
end
