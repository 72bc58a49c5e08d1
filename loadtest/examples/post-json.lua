-- Posts JSON, with another body in each request.
--
--     wrk -s post-json.lua http://127.0.0.1:8084/

-- What all requests have in common. `wrk.format` takes from here what it is not given.
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"

local sent = 0

-- Called for each request, on the thread that sends it. Each thread has its own copy of this script, and so its own count.
function request()
   sent = sent + 1
   local body = string.format('{"order": %d, "items": [{"id": "tea", "quantity": 2}]}', sent)
   -- Method and path are left out: they are those of `wrk` and of the URL. Content-Length is added.
   return wrk.format(nil, nil, nil, body)
end
