package mfa

import (
	"encoding/base32"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/internal/secret"
)

func decode(t testing.TB, text string) []byte {
	t.Helper()
	b, err := base32.StdEncoding.DecodeString(text)
	must(t, err)
	return b
}

// TestCodesAgainstAModelSoak does what people and thieves do with codes, in any order on either server, beside a model in a few
// lines: a TOTP step counts after all that counted, a sent code while it is the last of its attempt, fresh and unused, a
// recovery code once, and no code after too many wrong ones.
func TestCodesAgainstAModelSoak(t *testing.T) {
	t.Parallel()
	f := open(t)
	rapid.Check(t, func(rt *rapid.T) {
		p := f.person(t, f.tenant, "p@example.com")
		app, seed := f.add(t, p, Wanted{Kind: TOTP})
		post, _ := f.add(t, p, Wanted{Kind: Email})
		codes, err := f.room.NewRecoveryCodes(t.Context(), f.as(p, TOTP))
		must(t, err)
		last := f.clock.now().Unix() / 30
		wrong, day := 0, f.clock.now().Truncate(24*time.Hour)
		sent, usedCodes, usedRecovery := 1, map[string]bool{}, map[int]bool{} // the enrolment sent one
		hour := f.clock.now().Truncate(time.Hour)
		type question struct {
			state []byte
			code  string
			at    time.Time
		}
		var asked *question
		name := fmt.Sprint(p)
		either := func(rt *rapid.T) *Room { return rapid.SampledFrom([]*Room{f.room, f.other}).Draw(rt, "server") }
		judge := func(rt *rapid.T, r *Room, a Answer, right bool) {
			a.Attempt, a.Person = attempt(name), p
			if d := f.clock.now().Truncate(24 * time.Hour); d != day {
				day, wrong = d, 0
			}
			spent := !a.Code.IsZero() && wrong >= MostGuesses
			_, err := f.prove(t, r, a)
			switch {
			case spent != isKind(err, problem.TooMany):
				rt.Fatalf("after %d wrong codes: %v", wrong, err)
			case !spent && right != (err == nil):
				rt.Fatalf("right is %v: %v", right, err)
			case !spent && !right && !a.Code.IsZero():
				wrong++
			}
		}
		rt.Repeat(map[string]func(*rapid.T){
			"time passes": func(rt *rapid.T) {
				f.clock.pass(time.Duration(rapid.SampledFrom([]int{1, 29, 30, 61, 601, 3600}).Draw(rt, "seconds")) * time.Second)
			},
			"totp": func(rt *rapid.T) {
				steps := rapid.Int64Range(-2, 2).Draw(rt, "steps")
				step := f.clock.now().Unix()/30 + steps
				code := f.totp(seed, steps)
				right := steps >= -1 && steps <= 1 && step > last
				if spent := wrong >= MostGuesses && f.clock.now().Truncate(24*time.Hour) == day; right && !spent {
					last = step
				}
				judge(rt, either(rt), Answer{Factor: app.ID, Code: secret.Text(code)}, right)
			},
			"a guess": func(rt *rapid.T) {
				judge(rt, either(rt), Answer{Factor: rapid.SampledFrom([]ID{app.ID, post.ID}).Draw(rt, "factor"), Code: secret.Text("x")}, false)
			},
			"ask": func(rt *rapid.T) {
				if h := f.clock.now().Truncate(time.Hour); h != hour {
					hour, sent = h, 0
				}
				name = fmt.Sprint(p, rapid.IntRange(0, 1<<30).Draw(rt, "attempt"))
				_, state, err := f.ask(t, either(rt), Asked{Attempt: attempt(name), Person: p, Factor: post.ID, Sending: 1})
				if (err == nil) != (sent < MostSent) {
					rt.Fatalf("after %d codes in the hour: %v", sent, err)
				}
				asked = nil
				if err == nil {
					sent++
					asked = &question{state, f.lastCode(t, Email).Code, f.clock.now()}
				}
			},
			"the sent code": func(rt *rapid.T) {
				if asked == nil {
					return
				}
				right := f.clock.now().Sub(asked.at) <= CodeLife && !usedCodes[name]
				if spent := wrong >= MostGuesses && f.clock.now().Truncate(24*time.Hour) == day; right && !spent {
					usedCodes[name] = true
				}
				judge(rt, either(rt), Answer{Factor: post.ID, State: asked.state, Code: secret.Text(asked.code)}, right)
			},
			"a recovery code": func(rt *rapid.T) {
				n := rapid.IntRange(0, recoveryCodes-1).Draw(rt, "code")
				judge(rt, either(rt), Answer{RecoveryCode: codes[n]}, !usedRecovery[n])
				usedRecovery[n] = true
			},
		})
		if _, left := f.list(t, p); left != recoveryCodes-len(usedRecovery) {
			rt.Fatalf("%d recovery codes are left, %d were used", left, len(usedRecovery))
		}
	})
}

func FuzzRecoveryCode(f *testing.F) {
	f.Add(newRecoveryCode())
	f.Add("oooo-iiii-LLLL-0000-1111")
	f.Fuzz(func(t *testing.T, s string) {
		code := readRecoveryCode(s)
		if code == "" {
			return
		}
		if len(code) != recoveryChars || readRecoveryCode(code) != code {
			t.Errorf("%q is read as %q", s, code)
		}
	})
}

// FuzzAnswers gives the judges what browsers never send: they refuse it, and panic at none of it.
func FuzzAnswers(f *testing.F) {
	room := New(Config{PublicURL: public(f)})
	key := newAuthenticator()
	who := &holder{person: audit.NewSubjectID(), name: "Ada", address: "ada@example.com"}
	options, session, err := room.register(who, false)
	must(f, err)
	created := key.create(f, options)
	k, _, _, err := room.registered(who, session, created)
	must(f, err)
	usable := []stored{{Factor: Factor{Kind: Passkey}, details: details{Passkey: k}}}
	asks, challenge, err := room.challenge(who.person, usable, false)
	must(f, err)
	got := key.get(f, asks)
	parts := func(answer json.RawMessage) (client, object, data, sig []byte) {
		var a struct{ Response map[string]any }
		must(f, json.Unmarshal(answer, &a))
		part := func(name string) []byte {
			text, _ := a.Response[name].(string)
			b, _ := b64.DecodeString(text)
			return b
		}
		return part("clientDataJSON"), part("attestationObject"), part("authenticatorData"), part("signature")
	}
	for _, answer := range []json.RawMessage{created, got} {
		client, object, data, sig := parts(answer)
		f.Add([]byte(answer), client, object, data, sig)
		f.Add([]byte(nil), client, object, data, sig)
	}
	f.Fuzz(func(t *testing.T, answer, client, object, data, sig []byte) {
		if len(answer) == 0 { // what is inside the JSON
			answer = key.credential(t, map[string]any{
				"clientDataJSON": b64.EncodeToString(client), "attestationObject": b64.EncodeToString(object), "authenticatorData": b64.EncodeToString(data),
				"signature": b64.EncodeToString(sig), "userHandle": b64.EncodeToString(key.handle),
			})
		}
		if _, _, _, err := room.registered(who, session, answer); err != nil && !refused(err) {
			t.Error(err)
		}
		used, err := room.verify(Answer{Person: who.person, Assertion: answer}, asking{Session: challenge}, usable)
		if err != nil && !refused(err) || err == nil && used.factor == nil {
			t.Error(err)
		}
	})
}
