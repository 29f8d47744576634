// A receiver of webhooks that needs nothing but Go: it verifies, stores once, and answers.
package main

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	tolerance = 300 * time.Second
	mostBytes = 1_000_000
)

// isOurs tells whether a request was signed with the key, just now, and is as it was sent.
func isOurs(key []byte, headers http.Header, body []byte) bool {
	sentAt := headers.Get("webhook-timestamp")
	seconds, err := strconv.ParseInt(sentAt, 10, 64)
	if err != nil || time.Since(time.Unix(seconds, 0)).Abs() > tolerance {
		return false
	}
	mac := hmac.New(sha256.New, key)
	fmt.Fprintf(mac, "%s.%s.", headers.Get("webhook-id"), sentAt)
	mac.Write(body)
	wanted := []byte("v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil)))
	// There is a signature for each secret that is live: two, while the secret is rotated.
	for _, given := range strings.Fields(headers.Get("webhook-signature")) {
		if hmac.Equal(wanted, []byte(given)) {
			return true
		}
	}
	return false
}

type delivery struct {
	ID         string  `json:"webhook-id"`
	PreviousID *string `json:"webhook-previous-id"`
	Kind       *string `json:"webhook-attempt-kind"`
	Sequence   *int64  `json:"sequence"`
	Body       string  `json:"body"`
}

// deliveries is a file with a line for each delivery; it only grows.
type deliveries struct {
	lock sync.Mutex
	file *os.File
	ids  map[string]bool
}

func open(path string) (*deliveries, error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, err
	}
	stored, err := io.ReadAll(file)
	if err != nil {
		return nil, err
	}
	end := bytes.LastIndexByte(stored, '\n') + 1
	ids := map[string]bool{}
	for _, line := range bytes.Split(bytes.TrimSpace(stored[:end]), []byte("\n")) {
		var known delivery
		if err := json.Unmarshal(line, &known); err == nil {
			ids[known.ID] = true
		}
	}
	// What follows the last line end was cut off by a crash, and not answered: it comes again.
	if err := file.Truncate(int64(end)); err != nil {
		return nil, err
	}
	_, err = file.Seek(int64(end), io.SeekStart)
	return &deliveries{file: file, ids: ids}, err
}

// store stores a delivery for good; its line, or nothing if it is stored already.
func (d *deliveries) store(headers http.Header, body []byte) (string, error) {
	var event struct{ Sequence *int64 }
	if err := json.Unmarshal(body, &event); err != nil {
		return "", err
	}
	id := headers.Get("webhook-id")
	line, err := json.Marshal(delivery{
		ID:         id,
		PreviousID: optional(headers, "webhook-previous-id"),
		Kind:       optional(headers, "webhook-attempt-kind"),
		Sequence:   event.Sequence,
		Body:       string(body),
	})
	if err != nil {
		return "", err
	}
	d.lock.Lock()
	defer d.lock.Unlock()
	if d.ids[id] {
		return "", nil
	}
	_, err = fmt.Fprintf(d.file, "%s\n", line)
	if err == nil {
		err = d.file.Sync()
	}
	if err != nil {
		log.Fatal(err) // half a line may stand there now: the next start cuts it off
	}
	d.ids[id] = true
	return string(line), nil
}

func optional(headers http.Header, name string) *string {
	if value := headers.Get(name); value != "" {
		return &value
	}
	return nil
}

func setting(name, otherwise string) string {
	if value := os.Getenv(name); value != "" {
		return value
	}
	return otherwise
}

func main() {
	secret := strings.TrimPrefix(os.Getenv("WEBHOOK_SECRET"), "whsec_")
	key, err := base64.StdEncoding.DecodeString(secret)
	if err != nil || len(key) == 0 {
		log.Fatal("WEBHOOK_SECRET is the signing secret of your endpoint: whsec_…")
	}
	stored, err := open(setting("DELIVERIES", "deliveries.jsonl"))
	if err != nil {
		log.Fatal(err)
	}
	receive := func(response http.ResponseWriter, request *http.Request) {
		if request.Method != http.MethodPost {
			response.WriteHeader(http.StatusMethodNotAllowed)
			return
		}
		// The bytes as they came, not what a parser makes of them.
		body, err := io.ReadAll(http.MaxBytesReader(response, request.Body, mostBytes))
		if err != nil {
			response.WriteHeader(http.StatusRequestEntityTooLarge)
			return
		}
		if !isOurs(key, request.Header, body) {
			response.WriteHeader(http.StatusUnauthorized)
			return
		}
		line, err := stored.store(request.Header, body)
		if err != nil {
			log.Print(err)
			response.WriteHeader(http.StatusInternalServerError)
			return
		}
		response.WriteHeader(http.StatusNoContent)
		if line != "" {
			go fmt.Println(line) // your work goes here, beside the answer
		}
	}
	address := "127.0.0.1:" + setting("PORT", "9000")
	server := &http.Server{
		Addr:        address,
		Handler:     http.HandlerFunc(receive),
		ReadTimeout: 10 * time.Second,
	}
	fmt.Printf("receiving on http://%s/\n", address)
	log.Fatal(server.ListenAndServe())
}
