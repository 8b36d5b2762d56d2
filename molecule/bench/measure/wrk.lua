-- What wrk asks, by the environment: BODY bytes are posted, and PAUSE milliseconds are before each request, if any.
-- What it found goes to the last line of its output, as JSON.
local body, pause = os.getenv("BODY"), tonumber(os.getenv("PAUSE"))

if body then
  wrk.method = "POST"
  wrk.headers["Content-Type"] = "application/octet-stream"
  wrk.body = string.rep("x", tonumber(body))
end

if pause then
  function delay()
    return pause
  end
end

function done(summary, latency)
  local errors = summary.errors
  print(string.format(
    '{"requests": %d, "seconds": %.3f, "p50_ms": %.1f, "p99_ms": %.1f, '
      .. '"connect": %d, "read": %d, "write": %d, "timeout": %d, "status": %d}',
    summary.requests, summary.duration / 1e6, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
    errors.connect, errors.read, errors.write, errors.timeout, errors.status))
end
