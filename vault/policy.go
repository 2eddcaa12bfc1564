package vault

import (
	"fmt"
	"net/netip"
	"slices"
	"time"
	_ "time/tzdata" // hours are told in zones, which not every machine knows

	"github.com/avouch-dev/avouch/vault/fetch"
)

// Policy narrows when an item may be used, by whomever it was granted to.
type Policy struct {
	Approval bool           `json:"approval,omitempty" doc:"Somebody uses it only for as long as a second person has approved"`
	Hours    *Hours         `json:"hours,omitempty" doc:"Only then"`
	CIDRs    []netip.Prefix `json:"allowed_cidrs,omitempty" nullable:"true" maxItems:"50" doc:"Only from there; none is from anywhere"`
	Fetch    *fetch.Policy  `json:"fetch,omitempty" doc:"What a secret may be used for; nothing without it"`
	Uses     Uses           `json:"uses,omitempty" enum:"once,once_each" doc:"How often the code of one window is given out: once, to whoever comes first, which blocks replays; or once to each who asks. Absent is as often as somebody asks"`
}

// Uses says how often the code of one window is given out.
type Uses string

// The uses.
const (
	Once     Uses = "once"
	OnceEach Uses = "once_each"
)

// Hours are hours of the week.
type Hours struct {
	Days []int  `json:"days,omitempty" nullable:"true" maxItems:"7" doc:"1 is Monday, 7 is Sunday; none is all"`
	From string `json:"from" pattern:"^([01][0-9]|2[0-3]):[0-5][0-9]$" doc:"Inclusive" example:"08:00"`
	To   string `json:"to" pattern:"^([01][0-9]|2[0-3]):[0-5][0-9]$" doc:"Exclusive; before from it is of the day after" example:"18:00"`
	Zone string `json:"zone" maxLength:"64" doc:"As the IANA names it" example:"Europe/Berlin"`
}

const mostNetworks = 50

func (p *Policy) check(k Kind, w *wrong) {
	if len(p.CIDRs) > mostNetworks {
		w.add("policy.allowed_cidrs", "are over %d", mostNetworks)
	}
	for i, c := range p.CIDRs {
		if !c.IsValid() || c != c.Masked() {
			w.add(fmt.Sprintf("policy.allowed_cidrs[%d]", i), "is no network: bits behind its length are set")
		}
	}
	switch p.Uses {
	case "":
	case Once, OnceEach:
		if k != TOTP && k != Steam {
			w.add("policy.uses", "is of codes that change by time: %s has none", k)
		}
	default:
		w.add("policy.uses", "is neither once nor once_each")
	}
	if p.Hours != nil {
		p.Hours.check(w)
	}
	if p.Fetch == nil {
		return
	}
	if k != Secret {
		w.add("policy.fetch", "is of secrets alone: %s gives codes", k)
	}
	if err := p.Fetch.Check(); err != nil {
		w.add("policy.fetch", "%v", err)
	}
}

func (h *Hours) check(w *wrong) {
	if _, err := time.LoadLocation(h.Zone); err != nil || h.Zone == "" || h.Zone == "Local" {
		w.add("policy.hours.zone", "is no zone of the IANA, such as Europe/Berlin or UTC")
	}
	from, err := time.Parse("15:04", h.From)
	if err != nil {
		w.add("policy.hours.from", "is no time of day, such as 08:00")
	}
	to, err := time.Parse("15:04", h.To)
	if err != nil {
		w.add("policy.hours.to", "is no time of day, such as 18:00")
	}
	if from.Equal(to) {
		w.add("policy.hours.to", "is the same as from: leave hours out for the whole day")
	}
	for _, d := range h.Days {
		if d < 1 || d > 7 {
			w.add("policy.hours.days", "are numbers from 1, Monday, to 7, Sunday")
		}
	}
}

// holds reports whether an instant is within the hours. Hours that cannot be read hold never.
func (h *Hours) holds(now time.Time) bool {
	zone, err := time.LoadLocation(h.Zone)
	if err != nil {
		return false
	}
	return h.on(now.In(zone))
}

// on reports whether an instant is within the hours by its own clock.
func (h *Hours) on(now time.Time) bool {
	at, day := now.Format("15:04"), now
	switch {
	case h.From < h.To:
		if at < h.From || at >= h.To {
			return false
		}
	case at >= h.From:
	case at < h.To:
		day = now.AddDate(0, 0, -1) // the night belongs to the day on which it began
	default:
		return false
	}
	number := int(day.Weekday())
	if number == 0 {
		number = 7
	}
	return len(h.Days) == 0 || slices.Contains(h.Days, number)
}

// from reports whether an item may be used from an address.
func (p *Policy) from(a netip.Addr) bool {
	return len(p.CIDRs) == 0 || a.IsValid() && slices.ContainsFunc(p.CIDRs, func(c netip.Prefix) bool { return c.Contains(a.Unmap()) })
}
