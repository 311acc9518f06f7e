-- post.lua - what wrk sends: one telemetry event per request, POST /ingest, or many, POST /events/bulk.
--
--   wrk -s post.lua URL -- fixed        the same bytes each time, no id: the server makes one
--   wrk -s post.lua URL -- ids RUN      an id of the client's own in each; RUN keeps runs apart
--   wrk -s post.lua URL -- bulk COUNT   COUNT events of 120 bytes as NDJSON, no ids
--
-- The last line printed is for run.sh: "wrk" and key=value pairs; latencies in microseconds.

local START = '{"service":"billing-a","status":200,"latency_ms":12.5'

local LINE = START .. ',"timestamp":1763720000,"event_name":"billing-checkout-018bcfe5"}\n'

local function post(body, media_type)
   return wrk.format("POST", nil, { ["Content-Type"] = media_type or "application/json" }, body)
end

-- The length never changes, so neither does the head: only the id is new.
local function unique(run)
   local whole = post(START .. ',"event_id":"' .. run .. '-000000000"}')
   local before = string.sub(whole, 1, -12)
   local count = 0

   return function()
      count = count + 1
      return before .. string.format('%09d"}', count)
   end
end

function init(args)
   if args[1] == "ids" then
      request = unique(args[2])
   else
      local whole = post(START .. "}")

      if args[1] == "bulk" then
         whole = post(string.rep(LINE, tonumber(args[2])), "application/x-ndjson")
      end
      wrk.format = function() return whole end
   end
end

function done(summary, latency)
   local errors = summary.errors
   local failed = errors.connect + errors.read + errors.write + errors.status + errors.timeout

   io.write(string.format("wrk req_s=%.0f p50_us=%.0f p99_us=%.0f p999_us=%.0f max_us=%.0f errors=%d\n",
      summary.requests / summary.duration * 1e6, latency:percentile(50), latency:percentile(99),
      latency:percentile(99.9), latency.max, failed))
end
