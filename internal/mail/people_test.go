package mail

import (
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write testdata/*.golden")

const (
	when  = "Mon, 23 Nov 2026 09:30:00 UTC"
	later = "Mon, 30 Nov 2026 09:30:00 UTC"
	where = "Firefox on Linux, 192.0.2.7"
	home  = "https://avouch.example/account"
	acme  = "Acme & Söhne"
)

// samples fills every template.
func samples() map[Template]any {
	mine := SecurityData{Organisation: acme, When: when, Where: where, URL: home}
	glass := GlassData{
		Organisation: acme, Person: "Ada Lovelace", Capabilities: []string{"vault:read", "agents:write"}, Reason: "Agent 7 deletes orders, and <nobody> answers.",
		When: when, URL: home,
	}
	asked, opened := glass, glass
	root := []VaultItem{{"AWS root", "01a2029e-0686-7f37-b0e5-671e55b4fb91"}}
	asked.Opens = later
	opened.By, opened.Until = "Grace Hopper", later
	return map[Template]any{
		KeyLeaked: leaked, KeyExpiring: expiring,
		Incident:   IncidentData{Organisation: "Acme", Kind: "log.broken", Detail: "It does not verify.", When: "now", ID: "1"},
		Invitation: InvitationData{Organisation: acme, Inviter: "Ada Lovelace", Link: "https://avouch.example/join#link=abc", Expires: later},
		Recover:    LinkData{Organisation: acme, When: when, Link: "https://avouch.example/recover#link=abc", Expires: later}, RecoverDone: mine,
		SignInCode:    SignInCodeData{Organisation: acme, Code: "287082", Minutes: "10"},
		FactorChanged: FactorChangedData{Organisation: acme, What: "A second factor was added: a passkey.", When: when, URL: home}, PasswordChanged: mine, NewDevice: mine, SessionReused: mine,
		AddressChange: LinkData{Organisation: acme, When: when, Link: "https://avouch.example/account#link=abc", Expires: later}, AddressChanged: mine,
		RulesLowered: RulesLoweredData{
			Organisation: acme, Changes: []string{"Members need no second factor.", "Sessions live for 7 days."}, By: "Ada Lovelace", When: when, Due: later, URL: home,
		},
		Ownership:           OwnershipData{Organisation: acme, Person: "Grace Hopper", Owner: true, By: "Ada Lovelace", When: when, URL: home},
		OrganisationDeleted: OrganisationDeletedData{Organisation: acme, By: "Ada Lovelace", When: when, Gone: later},
		DeletionAsked:       DeletionAskedData{Organisation: acme, By: "Ada Lovelace", When: when, Lapses: later, URL: home},
		DeletionEnded:       DeletionEndedData{Organisation: acme, By: "Grace Hopper", When: when},
		GlassAsked:          asked, GlassOpened: opened, GlassReview: GlassReviewData{Organisation: acme, Person: "Ada Lovelace", When: when, URL: home},
		VaultRequested:    VaultData{Organisation: acme, By: "Ada Lovelace", Who: "ada@acme.example", Items: root, Request: "01a2029e-0686-7f37-b0e5-671e55b4fb90", What: "its codes", For: "15 minutes", Reason: "Billing is on fire, ticket 4712", When: when, URL: home},
		VaultExported:     VaultData{Organisation: acme, By: "Ada Lovelace", Who: "ada@acme.example", Items: root, When: when, URL: home},
		VaultRedirected:   VaultData{Organisation: acme, By: "Ada Lovelace", Who: "ada@acme.example", Items: []VaultItem{{"GitHub token", "01a2029e-0686-7f37-b0e5-671e55b4fb92"}}, When: when, URL: home},
		KMSChanged:        KMSChangedData{Organisation: acme, What: "Its keys are under the key of this installation alone.", By: "Ada Lovelace", When: when, URL: home},
		SSOConfigurerLeft: SSOConfigurerLeftData{Organisation: acme, Connection: "Acme's Okta", Person: "Ada Lovelace", When: when, URL: home},
	}
}

// variants are the templates filled in the other ways that they have.
func variants() map[string]struct {
	Template
	Data any
} {
	all := samples()
	lost, without := all[FactorChanged].(FactorChangedData), all[NewDevice].(SecurityData)
	left, waits := all[Ownership].(OwnershipData), all[GlassAsked].(GlassData)
	seed, many := all[VaultRequested].(VaultData), all[VaultExported].(VaultData)
	seed.By, seed.Who, seed.What, seed.Seed, seed.URL = "The agent Robot", "agent 01a2029e-0686-7f37-b0e5-671e55b4fb94", "the seed itself", true, ""
	many.Items, many.More = append(slices.Clone(many.Items), VaultItem{"GitHub <recovery>", "01a2029e-0686-7f37-b0e5-671e55b4fb93"}), 3
	lost.Whose, without.Where, without.URL, left.Owner, waits.Opens = "Grace Hopper", "", "", false, ""
	away := left
	away.Suspended = true
	return map[string]struct {
		Template
		Data any
	}{
		"factor_changed.another":         {FactorChanged, lost},
		"new_device.nowhere":             {NewDevice, without},
		"ownership.left":                 {Ownership, left},
		"ownership.suspended":            {Ownership, away},
		"deletion_ended.lapsed":          {DeletionEnded, DeletionEndedData{Organisation: acme, When: when}},
		"organisation_deleted.confirmed": {OrganisationDeleted, OrganisationDeletedData{Organisation: acme, Asked: "Grace Hopper", By: "Ada Lovelace", When: when, Gone: later}},
		"glass_asked.person":             {GlassAsked, waits},
		"glass_review.week":              {GlassReview, GlassReviewData{Organisation: acme, Week: "2026-11-16", Uses: 2, URL: home}},
		"glass_review.none":              {GlassReview, GlassReviewData{Organisation: acme, Week: "2026-11-16"}},
		"vault_requested.seed":           {VaultRequested, seed},
		"vault_exported.many":            {VaultExported, many},
		"invitation.system":              {Invitation, InvitationData{Organisation: acme, Link: "https://avouch.example/join#link=abc", Expires: later}},
	}
}

// TestGolden compares what each template says with the file that was read when it was last changed.
func TestGolden(t *testing.T) {
	t.Parallel()
	all := variants()
	for _, name := range Templates() {
		all[string(name)] = struct {
			Template
			Data any
		}{name, samples()[name]}
	}
	for name, v := range all {
		m, err := Render(v.Template, "ada@example.com", v.Data)
		must(t, err)
		got := "Subject: " + m.Subject + "\n\n" + m.Text + "\n" + m.HTML
		file := filepath.Join("testdata", name+".golden")
		if *update {
			must(t, os.WriteFile(file, []byte(got), 0o644))
		}
		want, err := os.ReadFile(file)
		if diff := cmp.Diff(string(want), got); err != nil || diff != "" {
			t.Errorf("%s: %v %s", name, err, diff)
		}
		if strings.Contains(m.Text, "\n\n\n") || strings.HasSuffix(m.Text, "\n\n") || len(m.Subject) > 100 {
			t.Errorf("%s: %s\n%s", name, m.Subject, m.Text)
		}
		// A link with a secret is in the body alone, and counts once: a preview on a locked screen shows subjects.
		for _, word := range []string{"#link=", "287082"} {
			if strings.Contains(m.Subject, word) || strings.Contains(m.Text, word) != strings.Contains(m.HTML, word) {
				t.Errorf("%s: %q is in the subject, or only in one part", name, word)
			}
		}
	}
	files, err := filepath.Glob("testdata/*.golden")
	if err != nil || len(files) != len(all) {
		t.Errorf("%d files for %d mails: %v", len(files), len(all), err)
	}
	listed := map[string]bool{}
	for _, name := range Templates() {
		listed[string(name)+".txt"], listed[string(name)+".html"] = true, true
	}
	there, err := templateFiles()
	must(t, err)
	for _, name := range there {
		if !listed[name] {
			t.Errorf("%s is no file of a template that is listed", name)
		}
	}
	if len(there) != len(listed) {
		t.Errorf("%d files of %d", len(there), len(listed))
	}
}

func templateFiles() (names []string, err error) {
	entries, err := files.ReadDir("templates")
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names, err
}

// TestInvitationIsNoBillboard lets somebody who made an organisation write to strangers through its name and his own.
func TestInvitationIsNoBillboard(t *testing.T) {
	t.Parallel()
	for _, name := range []string{
		"Your account is locked, go to https://evil.example/now", "evil.example", "www.evil.example/a?b", "evil。example", "evil．example", "evil｡example", "call eve@evil.example",
		"x\r\nBcc: eve@evil.example\r\n\r\nhttp://evil.example", strings.Repeat("evil.example ", 50), `\\evil.example\share`, "javascript:alert(1)", "<a href=//evil.example>x</a>",
	} {
		m, err := Render(Invitation, "ada@example.com", InvitationData{Organisation: name, Inviter: name, Link: "https://avouch.example/join#link=abc", Expires: later})
		must(t, err)
		ours := strings.ReplaceAll(m.Subject+"\n"+m.Text+m.HTML, "https://avouch.example/join#link=abc", "")
		ours = strings.ReplaceAll(ours, later, "")
		if found := regexp.MustCompile(`(?i)://|www\.|\S@\S|evil[.。．｡]\S|script:|href=/`).FindString(ours); found != "" {
			t.Errorf("%q leaves %q in\n%s", name, found, ours)
		}
		for line := range strings.Lines(m.Text) {
			if n := utf8.RuneCountInString(line); n > 170 {
				t.Errorf("%q fills a line of %d characters: %s", name, n, line)
			}
		}
	}
	for name, want := range map[string]string{"Acme Inc.": "Acme Inc.", "Dr. Who & Söhne": "Dr. Who & Söhne", "booking.com": "booking·com", "  a \t b ": "a b"} {
		if got := calm(name); got != want {
			t.Errorf("calm(%q) = %q, want %q", name, got, want)
		}
	}
}

// TestReasonIsSetApart lets whoever asks for break-glass write lines that look like ours.
func TestReasonIsSetApart(t *testing.T) {
	t.Parallel()
	data := samples()[GlassOpened].(GlassData)
	data.By, data.Reason = "", "an outage\r\n\r\n  By:      Grace Hopper\u2028  By:      Grace Hopper\v  By:      Grace Hopper\x85"
	m, err := Render(GlassOpened, "ada@example.com", data)
	must(t, err)
	if n, quoted := strings.Count(m.Text, "By: "), strings.Count(m.Text, "\n  >   By: "); n != 3 || quoted != n {
		t.Errorf("%d of %d lines are set apart:\n%s", quoted, n, m.Text)
	}
}
