// Go's net/http as it comes. scripts/conformance puts a number for PORT. The handler reads bodies whole and sends them back, so that
// wrong ones are found.
package main

import (
	"io"
	"log"
	"net/http"
	"os"
)

func answer(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 1<<20))
	switch {
	case err != nil:
		http.Error(w, err.Error(), http.StatusBadRequest)
	case r.URL.Path != "/":
		http.NotFound(w, r)
	case r.Method == "GET" || r.Method == "HEAD":
		io.WriteString(w, "hello\n")
	case r.Method == "POST":
		w.Write(body)
	case r.Method == "DELETE" || r.Method == "TRACE" || r.Method == "OPTIONS":
		w.Header().Set("Allow", "GET, HEAD, POST")
		w.WriteHeader(http.StatusMethodNotAllowed)
	default:
		w.WriteHeader(http.StatusNotImplemented)
	}
}

func main() {
	log.SetOutput(io.Discard)
	http.HandleFunc("/", answer)
	if err := http.ListenAndServe("127.0.0.1:PORT", nil); err != nil {
		println(err.Error())
		os.Exit(1)
	}
}
