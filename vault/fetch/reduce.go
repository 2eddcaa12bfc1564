package fetch

import (
	"errors"
	"fmt"
	"slices"
)

// Reduce is how much of the answer is wanted. The zero value wants all of it.
type Reduce struct {
	Status   bool     `json:"status,omitempty" doc:"The status alone"`
	Pointers []string `json:"pointers,omitempty" nullable:"true" maxItems:"20" doc:"The status, and what these pointers (RFC 6901) find in the JSON of the body, or below that" example:"[\"/data/0/id\"]"`
}

// reduction is a Reduce that was read: the steps of its pointers, and these as they were written.
type reduction struct {
	status   bool
	pointers [][]string
	written  []string
}

func (r Reduce) compile() (c reduction, err error) {
	if r.Status && len(r.Pointers) > 0 {
		return c, errors.New("an answer is reduced to its status, or to pointers")
	}
	if len(r.Pointers) > mostPointers {
		return c, fmt.Errorf("at most %d pointers are possible", mostPointers)
	}
	for _, p := range r.Pointers {
		steps, err := parsePointer(p)
		if err != nil {
			return c, err
		}
		c.pointers = append(c.pointers, steps)
	}
	c.status, c.written = r.Status, r.Pointers
	return c, nil
}

// covers refuses what is more than this.
func (r *reduction) covers(asked reduction) error {
	switch {
	case asked.status || !r.status && len(r.pointers) == 0:
		return nil
	case r.status:
		return denied("of an answer it gives the status alone: ask for that, with `reduce.status`")
	case len(asked.pointers) == 0:
		return r.tooMuch("the request asks for all of it")
	}
	for _, p := range asked.pointers {
		if !slices.ContainsFunc(r.pointers, func(most []string) bool { return len(p) >= len(most) && slices.Equal(p[:len(most)], most) }) {
			return r.tooMuch("a pointer of the request leads elsewhere")
		}
	}
	return nil
}

// tooMuch says what may be asked for instead, which whoever asks cannot know: items are not shown to agents.
func (r *reduction) tooMuch(what string) error {
	return denied("of an answer it gives the status and what is at %q, or below that, and %s: ask for less, with `reduce.pointers` or `reduce.status`", r.written, what)
}
