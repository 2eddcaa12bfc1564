package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/avouch-dev/avouch/org"
	"github.com/avouch-dev/avouch/server"
	"github.com/avouch-dev/avouch/tenantdb"
)

// allowance is a monthly quota as people write it: a number, or unlimited.
type allowance struct{ most *int64 }

// UnmarshalText reads an allowance.
func (a *allowance) UnmarshalText(b []byte) error {
	if string(b) == "unlimited" {
		a.most = nil
		return nil
	}
	n, err := strconv.ParseInt(string(b), 10, 64)
	if err != nil || n < 0 {
		return errors.New(`must be a number of verifications a month, or unlimited`)
	}
	a.most = &n
	return nil
}

// String is what a person is told.
func (a allowance) String() string {
	if a.most == nil {
		return "unlimited"
	}
	return grouped(*a.most) + " a month"
}

// orgsSet is `avouch organisations set`.
type orgsSet struct {
	operatorName `embed:""`
	Tenant       string    `arg:"" name:"tenant-id" help:"Whose."`
	Quota        allowance `name:"monthly-quota" required:"" placeholder:"N|unlimited" help:"Verifications a month: of the organisation's owner keys together, or of the service key of --key."`
	Key          string    `placeholder:"KEY-ID" help:"One of its service keys, which have quotas of their own."`
}

// Help is the long text.
func (*orgsSet) Help() string {
	return operatorOnly + ` When it returns, the quota holds on every server; what was used in this month stays used. The organisation finds the change in its log.

    avouch organisations set TENANT-ID --monthly-quota 50000
    avouch organisations set TENANT-ID --key KEY-ID --monthly-quota unlimited`
}

// Run sets a quota.
func (c *orgsSet) Run(ctx context.Context, g *globals) error {
	by, err := c.organisation(g, c.Tenant)
	if err != nil {
		return err
	}
	return operate(ctx, g, func(s *server.Server) error {
		whose := "the organisation's owner keys"
		if c.Key == "" {
			err = s.Org.SetQuota(ctx, by, c.Quota.most)
		} else {
			whose = "the key " + c.Key
			_, err = s.Keys.SetQuota(ctx, by, c.Key, c.Quota.most)
		}
		if err != nil {
			return refusal(err)
		}
		if g.JSON {
			return encode(g.Out, struct {
				TenantID string `json:"tenant_id"`
				KeyID    string `json:"key_id,omitempty"`
				Quota    *int64 `json:"monthly_quota"`
			}{by.Tenant().String(), c.Key, c.Quota.most})
		}
		_, err := fmt.Fprintf(g.Out, "Verifications with %s: %s.\n", whose, c.Quota)
		return err
	})
}

// orgsList is `avouch organisations list`.
type orgsList struct{}

// Help is the long text.
func (*orgsList) Help() string {
	return operatorOnly + " Lists every organisation but the installation's own, with what its owner keys have used of their quota in this month (UTC). Service keys have quotas of their own. One that was deleted can be restored until its keys are destroyed: avouch organisations restore."
}

// listed is an organisation as its operator sees it.
type listed struct {
	TenantID  tenantdb.TenantID `json:"tenant_id"`
	Name      string            `json:"name"`
	Status    string            `json:"status"`
	CreatedAt time.Time         `json:"created_at"`
	Quota     *int64            `json:"monthly_quota"`
	Used      *int64            `json:"used_this_month"`
	Badge     bool              `json:"badge"`
	Region    string            `json:"region"`
	Until     time.Time         `json:"restorable_until,omitzero"` // of one that is deleted
}

func asListed(o org.Organisation) listed {
	l := listed{TenantID: o.ID, Name: o.Name, Status: "active", CreatedAt: o.CreatedAt.UTC(), Quota: o.MonthlyQuota, Used: o.Used, Badge: o.Badge, Region: o.Region}
	switch {
	case !o.ShreddedAt.IsZero():
		l.Status = "destroyed"
	case !o.DeletedAt.IsZero():
		l.Status, l.Until = "deleted", o.DeletedAt.Add(org.Grace).UTC()
	case !o.SuspendedAt.IsZero():
		l.Status = "suspended"
	}
	return l
}

// Run lists the organisations.
func (*orgsList) Run(ctx context.Context, g *globals) error {
	t := table{columns: []column{{name: "tenant id"}, {name: "status"}, {name: "name", soft: true}, {name: "region"}, {name: "used this month", right: true}, {name: "quota", right: true}, {name: "created"}}}
	regions := false
	return operate(ctx, g, func(s *server.Server) error {
		err := s.Org.Each(ctx, func(o org.Organisation) error {
			l := asListed(o)
			regions = regions || l.Region != ""
			if g.JSON {
				return encode(g.Out, l)
			}
			t.rows = append(t.rows, l.row(g.Now()))
			return nil
		})
		switch {
		case err != nil:
			return refusal(err)
		case g.JSON:
			return nil
		case len(t.rows) == 0:
			fmt.Fprintln(g.Err, "There are none.")
			return nil
		}
		if !regions {
			t.drop(regionColumn)
		}
		return t.write(g.page())
	})
}

// regionColumn is of the list of organisations; nobody needs it where there are no regions.
const regionColumn = 3

func (l listed) row(now time.Time) []cell {
	used, most, look := "not counted", "unlimited", plain
	if l.Quota != nil {
		used, most = grouped(deref(l.Used)), grouped(*l.Quota)
		if deref(l.Used) >= *l.Quota {
			look = bad
		}
	}
	status := state(l.Status)
	if !l.Until.IsZero() {
		status.text += ", kept until " + l.Until.Local().Format("2006-01-02")
	}
	return []cell{{text: l.TenantID.String()}, status, {text: l.Name}, {text: l.Region}, {used, look}, {text: most}, {text: ago(l.CreatedAt, now)}}
}
