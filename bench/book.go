package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// book is everything that was measured.
type book struct {
	Conditions condition `json:"conditions"`
	Starts     []begin   `json:"starts"`
	Disk       []disk    `json:"fdatasync"`
	SQLKeys    []sqlKey  `json:"sql_keys"`
	Results    []result  `json:"results"`
}

// median is the middle value, or the mean of the two in the middle; 0 of nothing.
func median(values []float64) float64 {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	middle := len(sorted) / 2
	if len(sorted)%2 == 1 {
		return sorted[middle]
	}
	return (sorted[middle-1] + sorted[middle]) / 2
}

// field picks one number of a result.
type field func(*result) float64

func perSecond(r *result) float64   { return r.PerSecond }
func p50(r *result) float64         { return r.P50 }
func p99(r *result) float64         { return r.P99 }
func cpu(r *result) float64         { return r.ServerCPU + r.PostgresCPU }
func serverCPU(r *result) float64   { return r.ServerCPU }
func postgresCPU(r *result) float64 { return r.PostgresCPU }
func ownCPU(r *result) float64      { return r.OwnCPU }
func megabytes(r *result) float64   { return float64(r.Memory) / 1e6 }

// beside is how much of something the chore beside a cell did in a second of it. It ran through the warm-up too,
// so this is somewhat more than the rate.
func beside(what string) field {
	return func(r *result) float64 { return r.Beside[what] / max(r.Seconds, 1e-3) }
}

// byRound is a number of a cell in each round that measured it.
func (b *book) byRound(k key, f field) map[int]float64 {
	all := map[int]float64{}
	for i := range b.Results {
		if r := &b.Results[i]; r.Cell == k.name && r.Conns == k.conns {
			all[r.Round] = f(r)
		}
	}
	return all
}

// values are the numbers of a cell, round by round.
func (b *book) values(k key, f field) []float64 { return inOrder(b.byRound(k, f)) }

// ratios divides a number of one cell by one of another, within each round.
func (b *book) ratios(over key, f field, under key, g field) []float64 {
	return inOrder(divide(b.byRound(over, f), b.byRound(under, g)))
}

// perDisk divides a number of a cell by what fdatasync took in the same round.
func (b *book) perDisk(k key, f field) []float64 {
	took := map[int]float64{}
	for _, d := range b.Disk {
		took[d.Round] = d.P50
	}
	return inOrder(divide(b.byRound(k, f), took))
}

func divide(over, under map[int]float64) map[int]float64 {
	all := map[int]float64{}
	for round, n := range over {
		if d := under[round]; d > 0 {
			all[round] = n / d
		}
	}
	return all
}

func inOrder(byRound map[int]float64) []float64 {
	var rounds []int
	for r := range byRound {
		rounds = append(rounds, r)
	}
	slices.Sort(rounds)
	all := make([]float64, len(rounds))
	for i, r := range rounds {
		all[i] = byRound[r]
	}
	return all
}

// keys lists the cells that were measured, in the order of the first round.
func (b *book) keys() []key {
	var all []key
	for _, r := range b.Results {
		if k := (key{r.Cell, r.Conns}); !slices.Contains(all, k) {
			all = append(all, k)
		}
	}
	return all
}

// errWrong says that answers were not as they must be.
var errWrong = errors.New("not every answer was right, so these are no measurements")

func (b *book) wrong() error {
	if all := b.wrongCells(); len(all) > 0 {
		return fmt.Errorf("%w:\n%s", errWrong, strings.Join(all, "\n"))
	}
	return nil
}

func (b *book) wrongCells() []string {
	var all []string
	for _, r := range b.Results {
		if r.Wrong != "" {
			all = append(all, fmt.Sprintf("round %d, %s: %s", r.Round, key{r.Cell, r.Conns}, r.Wrong))
		}
	}
	return all
}
