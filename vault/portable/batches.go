package portable

import (
	"context"
	"fmt"
)

// Batches gathers what several files hold that belong together, in any order: pictures and lines of addresses, such as those that Google
// Authenticator makes of one export. In a place files are counted from one.
type Batches struct {
	all   addresses
	files int
}

// Add reads one more file, of FormatURI or FormatQR. ErrFormat is that it is none.
func (b *Batches) Add(ctx context.Context, f Format, data []byte) error {
	b.files++
	place := fmt.Sprintf("file %d", b.files)
	if len(data) > MostBytes {
		return fmt.Errorf("%s: %w", place, malformed("it has %d bytes; at most %d are read", len(data), MostBytes))
	}
	switch f {
	case FormatURI:
		b.all.lines(place+", ", string(data))
	case FormatQR:
		texts, err := pictured(ctx, data, mostLooking)
		if err != nil {
			return fmt.Errorf("%s: %w", place, err)
		}
		for i, text := range texts {
			b.all.take(fmt.Sprintf("%s, code %d", place, i+1), text)
		}
	default:
		return fmt.Errorf("%s: %w", place, malformed("only pictures and lines of addresses are read several at once, and it is neither"))
	}
	return nil
}

// Reading is what they hold, once all are added.
func (b *Batches) Reading() (Reading, error) { return b.all.end().whole(nil) }

// Clear forgets the seeds.
func (b *Batches) Clear() { b.all.read.Clear() }
