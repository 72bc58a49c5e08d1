-- Logs in first, takes the token from the answer, and sends it with every request after that.
--
--     wrk -s login-token.lua http://127.0.0.1:8084/
--
-- This server echoes what is posted to it, so the login asks for the token that it wants to get. A real login would post a
-- name and a password, to a path of its own.

local login
-- What to send once there is a token.
local query

-- Called once on each thread. Not earlier: outside of all functions, `wrk` does not know the Host yet.
function init(arguments)
   login = wrk.format("POST", "/", { ["Content-Type"] = "application/json" }, '{"token": "secret-4711"}')
end

-- Each thread logs in. Its connections share this state: those that send before the first answer has come log in, too.
function request()
   return query or login
end

-- Called for each answer. A script without this function is faster: then nothing keeps the bodies.
function response(status, headers, body)
   if query then
      return
   end
   local token = status == 200 and body:match('"token": *"([^"]+)"')
   if not token then
      error("the login was answered with " .. status .. ": " .. body)
   end
   query = wrk.format("GET", "/", { ["Authorization"] = "Bearer " .. token })
end
