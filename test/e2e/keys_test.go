package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// keyVerdict is an answer to POST /api/v1/keys/verify.
type keyVerdict struct {
	Valid     bool       `json:"valid"`
	Code      string     `json:"code"`
	Remaining *int64     `json:"remaining"`
	RetryAt   *time.Time `json:"retry_at"`
	Rates     []struct {
		Name             string
		Limit, Remaining int64
	} `json:"rate_limits"`
	RequestID string `json:"request_id"`
	Audit     struct{ Seq int64 }
}

// keyQuestion is a request to keys/verify as it goes over the wire.
func keyQuestion(addr, asker, key string) []byte {
	body, err := json.Marshal(map[string]any{"key": key})
	if err != nil {
		panic(err)
	}
	return fmt.Appendf(nil, "POST /api/v1/keys/verify HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s",
		addr, asker, len(body), body)
}

// dataKey makes a key that a party gives to somebody.
func (n *node) dataKey(t testing.TB, p party, more map[string]any) (key, id string) {
	t.Helper()
	body := map[string]any{"name": "given", "kind": "data"}
	maps.Copy(body, more)
	a := n.call(t, "POST", "/api/v1/keys", p.key, body).want(t, http.StatusCreated)
	return a.text("key"), a.text("key_id")
}

// crowd has many callers ask about a key, each over a connection of its own to one of the servers, so often each, and
// returns all answers.
func crowd(t *testing.T, servers []string, asker, key string, callers, times int) []keyVerdict {
	t.Helper()
	var mu sync.Mutex
	var answers []keyVerdict
	var ready, all sync.WaitGroup
	ready.Add(callers)
	begin := make(chan struct{})
	for i := range callers {
		addr := servers[i%len(servers)]
		all.Go(func() {
			w, err := dial(addr)
			ready.Done()
			if err != nil {
				t.Error(err)
				return
			}
			defer w.conn.Close()
			question := keyQuestion(addr, asker, key)
			<-begin
			for range times {
				status, body, err := w.send(question)
				var v keyVerdict
				if err == nil {
					err = json.Unmarshal(body, &v)
				}
				if err != nil || status != http.StatusOK {
					t.Errorf("%d %.300s: %v", status, body, err)
					return
				}
				mu.Lock()
				answers = append(answers, v)
				mu.Unlock()
			}
		})
	}
	ready.Wait()
	close(begin)
	all.Wait()
	return answers
}

// tell counts answers by code.
func tell(answers []keyVerdict) map[string]int {
	n := map[string]int{}
	for _, v := range answers {
		n[v.Code]++
	}
	return n
}

const keyCallers = 64

// keyRounds is how often a limit is run up against.
func keyRounds() int {
	if soak() {
		return 50
	}
	return 10
}

// TestKeyUsesOnTwoServersSoak: 64 callers ask two server processes about one key. As many are told VALID as the key has uses, each
// with another rest, and no more; the log says the same.
func TestKeyUsesOnTwoServersSoak(t *testing.T) {
	t.Parallel()
	a, b := pair(t)
	p := a.organisation(t, "uses")
	asker, _ := a.serviceKey(t, p, nil)
	valid, all := 0, 0
	for n := range keyRounds() {
		uses := []int{1, 7, 64, 100, 127}[n%5]
		key, id := a.dataKey(t, p, map[string]any{"max_uses": uses})
		answers := crowd(t, []string{a.addr, b}, asker, key, keyCallers, 2)
		told := tell(answers)
		if told["VALID"] != uses || told["USAGE_EXCEEDED"] != 2*keyCallers-uses {
			t.Errorf("round %d, %d uses: %v", n, uses, told)
		}
		var left []int64
		for _, v := range answers {
			switch {
			case v.Remaining == nil:
				t.Errorf("round %d: %s without what is left", n, v.Code)
			case v.Valid:
				left = append(left, *v.Remaining)
			case *v.Remaining != 0:
				t.Errorf("round %d: %s with %d left", n, v.Code, *v.Remaining)
			}
		}
		slices.Sort(left)
		for i, l := range left {
			if l != int64(i) {
				t.Fatalf("round %d: the rests are %v", n, left)
			}
		}
		if logged := keysLogged(t, a, p, id); !maps.Equal(logged, told) {
			t.Errorf("round %d: the log has %v, and callers were told %v", n, logged, told)
		}
		valid, all = valid+told["VALID"], all+len(answers)
	}
	t.Logf("measured: usage limits on two server processes: %d rounds of %d callers, %d answers, %d valid: exactly as many as there were uses in each round",
		keyRounds(), keyCallers, all, valid)
}

// TestKeyRatesOnTwoServersSoak: in no window of a key's rate limit do two server processes tell more callers VALID than the limit
// allows. A window is known by the answers: they carry what was left in it.
func TestKeyRatesOnTwoServersSoak(t *testing.T) {
	t.Parallel()
	a, b := pair(t)
	p := a.organisation(t, "rates")
	asker, _ := a.serviceKey(t, p, nil)
	const limit, seconds = 30, 1
	key, id := a.dataKey(t, p, map[string]any{"rate_limits": []map[string]any{
		{"name": "second", "limit": limit, "duration_seconds": seconds}, {"name": "day", "limit": 1_000_000, "duration_seconds": 86_400},
	}})
	start := time.Now()
	var answers []keyVerdict
	for n := 0; n < keyRounds() || time.Since(start) < 3*seconds*time.Second; n++ {
		answers = append(answers, crowd(t, []string{a.addr, b}, asker, key, keyCallers, 2)...)
	}
	took := time.Since(start)
	slices.SortFunc(answers, func(x, y keyVerdict) int { return int(x.Audit.Seq - y.Audit.Seq) })
	// In the order of the log, the rest of a window falls by one with each that is valid, and begins anew at its top.
	windows, next, day := 0, int64(0), int64(1_000_000)
	for _, v := range answers {
		if !v.Valid {
			if v.Code != "RATE_LIMITED" || v.RetryAt == nil {
				t.Errorf("%+v", v)
			}
			continue
		}
		second, rest := v.Rates[0].Remaining, v.Rates[1].Remaining
		if day--; rest != day {
			t.Fatalf("of the day %d are left after %d", rest, day+1)
		}
		if second == limit-1 {
			windows, next = windows+1, limit-1
		}
		if second != next {
			t.Fatalf("%d are left of the window where it should be %d", second, next)
		}
		next--
	}
	told := tell(answers)
	if most := int(took/(seconds*time.Second)) + 1; windows > most || told["VALID"] > most*limit || windows < 3 {
		t.Errorf("%d windows of a second in %s, with %d valid", windows, took, told["VALID"])
	}
	if logged := keysLogged(t, a, p, id); !maps.Equal(logged, told) {
		t.Errorf("the log has %v, and callers were told %v", logged, told)
	}
	t.Logf("measured: a rate limit of %d a second on two server processes: %d valid in %d windows, of %d asked in %s", limit, told["VALID"], windows, len(answers), took.Round(time.Millisecond))
}

// keysLogged counts what the log says of a key, by code, as its owner reads it.
func keysLogged(t *testing.T, n *node, p party, id string) map[string]int {
	t.Helper()
	found, after := map[string]int{}, ""
	for {
		page := n.call(t, "GET", "/api/v1/audit/entries?limit=200&type=key.verified&target="+id+after, p.key, nil).want(t, http.StatusOK)
		var entries struct {
			Entries []struct{ Decision string }
			Next    string `json:"next_cursor"`
		}
		must(t, json.NewDecoder(bytes.NewReader(page.Raw)).Decode(&entries))
		for _, e := range entries.Entries {
			found[e.Decision]++
		}
		if after = entries.Next; after == "" || len(entries.Entries) == 0 {
			return found
		}
		after = "&cursor=" + strings.ReplaceAll(after, "+", "%2B")
	}
}
