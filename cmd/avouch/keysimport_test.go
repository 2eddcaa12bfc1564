package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// TestImportParts: keys go in parts that are soon done and fit into a request, and what is refused is told by its line.
func TestImportParts(t *testing.T) {
	t.Parallel()
	var keys, sizes []int
	refuseAt := -1 // the part
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		var body struct{ Keys []json.RawMessage }
		if err := json.Unmarshal(b, &body); err != nil {
			t.Error(err)
		}
		if err != nil {
			t.Error(err)
		}
		if len(keys) == refuseAt {
			w.Header().Set("Content-Type", "application/problem+json")
			w.WriteHeader(http.StatusBadRequest)
			fmt.Fprint(w, `{"type":"https://x.example/problems/invalid","title":"T","status":400,"detail":"D","errors":[
				{"location":"body.keys[3].hash","message":"m"},{"location":"body.keys[4]","message":"n"},{"location":"body","message":"o"}]}`)
			return
		}
		keys, sizes = append(keys, len(body.Keys)), append(sizes, len(b))
		w.WriteHeader(http.StatusCreated)
		fmt.Fprintf(w, `{"keys":[%s]}`, strings.TrimSuffix(strings.Repeat(`{"status":"imported"},`, len(body.Keys)), ","))
	}))
	defer server.Close()
	run := func(file string) (string, error) {
		keys, sizes = nil, nil
		var out bytes.Buffer
		g := globals{In: strings.NewReader(file), Out: &out, Err: &out, Now: time.Now, Getenv: func(string) string { return stubKey }}
		err := (&keysImport{remote: remote{URL: server.URL}, File: "-"}).Run(t.Context(), &g)
		return out.String(), err
	}
	const small = `{"hash": "9f", "name": "x"}` + "\n\n"
	if says, err := run(strings.Repeat(small, 250)); err != nil || fmt.Sprint(keys) != "[100 100 50]" || !strings.HasPrefix(says, "250 imported") {
		t.Errorf("parts of %v: %s%v", keys, says, err)
	}
	large := `{"hash":"9f","name":"x","metadata":{"a":"` + strings.Repeat("<", 4<<10) + `"}}` + "\r\n" // sent, it is six times as long
	if _, err := run(strings.Repeat(large, 100)); err != nil {
		t.Error(err)
	}
	total := 0
	for i, n := range keys {
		if total += n; sizes[i] > 1<<20 {
			t.Errorf("%d keys were sent in %d bytes", n, sizes[i])
		}
	}
	if total != 100 {
		t.Errorf("%d keys were sent", total)
	}
	refuseAt = 1
	_, err := run(strings.Repeat(small, 250))
	var b bytes.Buffer
	if code := report(&b, err, false); code != exitUsage || !strings.Contains(b.String(), "after 100 keys, which stay") ||
		!strings.Contains(b.String(), "  standard input:207: hash: m\n  standard input:209: n\n  body: o\n") {
		t.Errorf("%d: %s", code, b.String())
	}
}

// TestImportLines: what is no key is told by its line, before it is sent.
func TestImportLines(t *testing.T) {
	t.Parallel()
	for file, want := range map[string]string{
		`{"hash":"9f"}` + "\n\n{\n\"hash\":\"9f\"}": "standard input:3 is not one JSON object: unexpected end of JSON input",
		`[{"hash":"9f"}]`:                "standard input:1 is not one JSON object: ",
		`{"keys":[{"hash":"9f"}]}`:       "standard input:1 has no hash: each line is one key, and no list of keys",
		"not a key":                      "standard input:1 is not one JSON object: ",
		strings.Repeat(" ", longestLine): "standard input:1 is longer than a key can be",
		"\n \n":                          "the file holds no keys",
	} {
		err := (&keysImport{File: "-"}).Run(t.Context(), &globals{In: strings.NewReader(file)})
		if codeOf(err) != exitUsage || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%.40q: %v", file, err)
		}
	}
}
