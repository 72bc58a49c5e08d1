-- Every fifth request asks the server to close the connection after its answer; the next one needs a new connection.
--
--   loadtest -c 10000 -R 500 -d 30m -s reconnect.lua http://127.0.0.1:8084/
--
-- reconnects one connection in a hundred each second.

local requests = 0
local keep, close

function init(args)
   keep = wrk.format()
   close = wrk.format(nil, nil, { ["Host"] = wrk.headers["Host"], ["Connection"] = "close" })
end

function request()
   requests = requests + 1
   return requests % 5 == 0 and close or keep
end
