-- SPDX-License-Identifier: GPL-2.0
-- For wrk: the figures of a run as one line of JSON, unrounded. With the arguments "post SIZE" the requests are
-- POSTs of SIZE bytes, 132 of them head, instead of GETs.
function init(args)
	if args[1] ~= "post" then
		return
	end
	local size = tonumber(args[2])
	wrk.method = "POST"
	wrk.body = string.rep("x", size - 132)
	wrk.headers["X-Filler"] = ""
	wrk.headers["X-Filler"] = string.rep("f", size - #wrk.format())
end

function done(summary, latency, requests)
	local errors = summary.errors
	io.write(string.format(
		'\nRESULT {"requests": %d, "seconds": %.6f, "mean_us": %.1f, "p99_us": %.1f, "errors": %d}\n',
		summary.requests, summary.duration / 1e6, latency.mean, latency:percentile(99),
		errors.connect + errors.read + errors.write + errors.status + errors.timeout))
end
