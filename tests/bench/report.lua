-- SPDX-License-Identifier: GPL-2.0
-- For wrk: the figures of a run as one line of JSON, unrounded. With the argument "post" the requests are
-- POSTs of 1024 bytes, 1156 with their heads, instead of GETs.
function init(args)
	if args[1] ~= "post" then
		return
	end
	wrk.method = "POST"
	wrk.body = string.rep("x", 1024)
	wrk.headers["X-Filler"] = ""
	wrk.headers["X-Filler"] = string.rep("f", 1156 - #wrk.format())
end

function done(summary, latency, requests)
	local errors = summary.errors
	io.write(string.format(
		'\nRESULT {"requests": %d, "seconds": %.6f, "mean_us": %.1f, "p99_us": %.1f, "errors": %d}\n',
		summary.requests, summary.duration / 1e6, latency.mean, latency:percentile(99),
		errors.connect + errors.read + errors.write + errors.status + errors.timeout))
end
