package main

import (
	"io"
	"slices"
	"strings"
)

// tint is how a text stands out on a terminal: a parameter of the SGR escape sequence.
type tint string

const (
	plain tint = ""
	good  tint = "32"
	bad   tint = "31"
	warn  tint = "33"
	faint tint = "2"
	bold  tint = "1"
)

// cell is a place of a table.
type cell struct {
	text string
	tint tint
}

// column is how a table shows one of its columns.
type column struct {
	name  string
	right bool // numbers
	soft  bool // may be cut on a narrow terminal; identifiers may not
}

// table is rows for people.
type table struct {
	columns []column
	rows    [][]cell
}

// page is where output for people goes.
type page struct {
	to     io.Writer
	width  int // of the terminal; 0 if it is none, and nothing is cut
	colour bool
}

func (p page) paint(text string, t tint) string {
	if !p.colour || t == plain || text == "" {
		return text
	}
	return "\x1b[" + string(t) + "m" + text + "\x1b[0m"
}

const gap = "  "

// write prints the table, its columns aligned.
func (t *table) write(p page) error {
	var b strings.Builder
	widths := t.widths(p.width)
	head := make([]cell, len(t.columns))
	for i, c := range t.columns {
		head[i] = cell{strings.ToUpper(c.name), faint}
	}
	t.row(&b, p, widths, head)
	for _, row := range t.rows {
		t.row(&b, p, widths, row)
	}
	_, err := io.WriteString(p.to, b.String())
	return err
}

// drop takes a column away.
func (t *table) drop(column int) {
	t.columns = slices.Delete(t.columns, column, column+1)
	for i, row := range t.rows {
		t.rows[i] = slices.Delete(row, column, column+1)
	}
}

func (t *table) widths(most int) []int {
	widths, sum := make([]int, len(t.columns)), -len(gap)
	for i, c := range t.columns {
		widths[i] = columns(c.name)
		for _, row := range t.rows {
			widths[i] = max(widths[i], columns(clean(row[i].text)))
		}
		sum += widths[i] + len(gap)
	}
	for most > 0 && sum > most {
		widest := -1
		for i, c := range t.columns {
			if c.soft && widths[i] > max(8, columns(c.name)) && (widest < 0 || widths[i] > widths[widest]) {
				widest = i
			}
		}
		if widest < 0 {
			break
		}
		widths[widest]--
		sum--
	}
	return widths
}

func (t *table) row(b *strings.Builder, p page, widths []int, row []cell) {
	left := p.width
	var line strings.Builder
	for i, c := range row {
		text := cut(clean(c.text), widths[i])
		if p.width > 0 {
			text = cut(text, max(left, 0))
		}
		pad := strings.Repeat(" ", widths[i]-columns(text))
		if t.columns[i].right {
			line.WriteString(pad + p.paint(text, c.tint))
		} else {
			line.WriteString(p.paint(text, c.tint) + pad)
		}
		line.WriteString(gap)
		left -= widths[i] + len(gap)
	}
	b.WriteString(strings.TrimRight(line.String(), " ") + "\n")
}

// detail is a line of what is known of one thing.
type detail struct {
	name  string
	value cell
}

// aside is a sentence under details.
func aside(text string) detail { return detail{value: cell{text, faint}} }

// writeDetails prints details under one another; those that are empty are left out. One without a name stands alone.
func writeDetails(p page, indent string, all []detail) error {
	widest := 0
	for _, d := range all {
		if d.value.text != "" {
			widest = max(widest, columns(d.name))
		}
	}
	var b strings.Builder
	for _, d := range all {
		switch {
		case d.value.text == "":
		case d.name == "":
			b.WriteString(indent + p.paint(clean(d.value.text), d.value.tint) + "\n")
		default:
			b.WriteString(indent + p.paint(d.name, faint) + strings.Repeat(" ", widest-columns(d.name)) + gap + p.paint(clean(d.value.text), d.value.tint) + "\n")
		}
	}
	_, err := io.WriteString(p.to, b.String())
	return err
}
