package vault

import (
	"testing"
	"time"

	"github.com/avouch-dev/avouch/internal/problem"
)

// TestLentIsNotHandedOn: who is lent the right to decide about items for a while gives nothing of them that lasts, and takes nothing in: no
// grant, approval, policy, secret or item. They end what was given, refuse, and read. Of their own items they decide as ever.
func TestLentIsNotHandedOn(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	ctx := t.Context()
	p := h.member(t)
	p.lent = []string{"vault:manage", "vault:write"}
	n := seedOf(HOTP)
	i := h.put(t, n)
	g := h.grant(t, i.ID, h.member(t).actor(), ForCode)
	q, err := h.Ask(ctx, h.member(t).caller(), i.ID, ForCode, "r", time.Hour)
	must(t, err)
	before := len(h.Entries(t, h.acme))
	counter, off := int64(7), Policy{}
	for says, do := range map[string]func() error{
		"grants":   func() error { _, err := h.Grant(ctx, p.caller(), i.ID, h.rules.person(0), ForCode, nil); return err },
		"a seed":   func() error { _, err := h.Grant(ctx, p.caller(), i.ID, h.rules.person(0), ForSeed, nil); return err },
		"approves": func() error { _, err := h.Decide(ctx, p.caller(), q.ID, true); return err },
		"a policy": func() error { _, err := h.Update(ctx, p.caller(), i.ID, "", Change{Policy: &off}); return err },
		"a name": func() error {
			_, err := h.Update(ctx, p.caller(), i.ID, "", Change{About: func(a *About) { a.Name = "x" }})
			return err
		},
		"a secret":  func() error { _, err := h.Replace(ctx, p.caller(), i.ID, "", n.content, 0); return err },
		"a counter": func() error { _, err := h.Resync(ctx, p.caller(), i.ID, nil, &counter); return err },
		"deletes":   func() error { return h.Delete(ctx, p.caller(), i.ID, "") },
		"an item":   func() error { _, err := h.Add(ctx, p.caller(), seedOf(TOTP)); return err },
		"an import": func() error {
			_, err := h.Import(ctx, p.caller(), Import{Data: []byte("otpauth://totp/A:b?secret=JBSWY3DPEHPK3PXP")})
			return err
		},
	} {
		if err := do(); !problem.Is(err, problem.Denied) {
			t.Errorf("%s: %v", says, err)
		}
	}
	if n := len(h.Entries(t, h.acme)); n != before {
		t.Errorf("%d entries of what was refused", n-before)
	}
	_, err = h.Grants(ctx, p.caller(), i.ID)
	must(t, err)
	_, err = h.Decide(ctx, p.caller(), q.ID, false)
	must(t, err)
	_, err = h.Revoke(ctx, p.caller(), i.ID, g.ID)
	must(t, err)
	loan := h.lend(t, h.member(t).caller(), i.ID, ForCode, time.Hour)
	_, err = h.Withdraw(ctx, p.caller(), loan.ID)
	must(t, err)

	p.caps = append(p.caps, "vault:write") // held, of what they made
	own, err := h.Add(ctx, p.caller(), seedOf(TOTP))
	must(t, err)
	_, err = h.Grant(ctx, p.caller(), own.ID, h.rules.person(0), ForCode, nil)
	must(t, err)
	_, err = h.Grant(ctx, p.caller(), i.ID, h.rules.person(0), ForCode, nil)
	refused(t, "another's", err, problem.Denied, "needs the capability vault:manage for good")
}
