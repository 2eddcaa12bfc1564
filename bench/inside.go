package main

import (
	"context"
	"slices"
	"time"
)

// sqlKey is what a key of the SQL package took to verify in one round, and what hashing took in turns with it.
type sqlKey struct {
	Round  int     `json:"round"`
	Kind   string  `json:"kind"`
	Bare   float64 `json:"bare_us"`
	Verify float64 `json:"verify_us"`
}

// sqlKeys measures by turns, so that both meet the same machine.
func (s *stage) sqlKeys(ctx context.Context, round int) ([]sqlKey, error) {
	var all []sqlKey
	for _, k := range s.inside.keys {
		var bare, verify []time.Duration
		for until := time.Now().Add(s.warm + s.cell); time.Now().Before(until); {
			b, err := s.inside.ask(ctx, "SELECT public.bare($1)", k.key)
			if err != nil {
				return nil, err
			}
			v, err := s.inside.ask(ctx, "SELECT avouch_keys.verify_key($1)", k.key)
			if err != nil {
				return nil, err
			}
			bare, verify = append(bare, b), append(verify, v)
		}
		all = append(all, sqlKey{round, k.name, middle(bare), middle(verify)})
	}
	return all, nil
}

// middle is the median, in microseconds.
func middle(d []time.Duration) float64 {
	slices.Sort(d)
	return float64(d[len(d)/2].Nanoseconds()) / 1000
}

func (b *book) sqlKeyRows() []row {
	var rows []row
	for _, kind := range []string{"without a scope", "with a scope"} {
		var ratios, took []float64
		for _, k := range b.SQLKeys {
			if k.Kind == kind {
				ratios, took = append(ratios, k.Verify/k.Bare), append(took, k.Verify)
			}
		}
		rows = append(rows,
			row{"SQL package: verifying a key " + kind + " / a bare sha512 function", "x", ratios, 3, 0, true},
			row{"SQL package: verifying a key " + kind + ", with the way there and back", "us", took, 0, 0, true},
		)
	}
	return rows
}
