// Go's net/http, which waits as long as ?wait= says, and finishes what is in flight when it is asked to stop.
package main

import (
	"context"
	"io"
	"log"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func answer(w http.ResponseWriter, r *http.Request) {
	wait, _ := time.ParseDuration(r.URL.Query().Get("wait"))
	time.Sleep(wait)
	io.WriteString(w, "ok\n")
}

func main() {
	log.SetOutput(io.Discard)
	mux := http.NewServeMux()
	mux.HandleFunc("/", answer)
	mux.HandleFunc("/chaos/panic", func(http.ResponseWriter, *http.Request) { panic("asked for") })
	server := &http.Server{Addr: os.Args[1], Handler: mux}
	stop, _ := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	done := make(chan struct{})
	go func() {
		<-stop.Done()
		patience, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		server.Shutdown(patience)
		close(done)
	}()
	if err := server.ListenAndServe(); err != http.ErrServerClosed {
		println(err.Error())
		os.Exit(1)
	}
	<-done
}
