package sms

import (
	"context"
	"errors"
	"regexp"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/riverqueue/river"

	"github.com/avouch-dev/avouch/internal/problem"
)

// Message is one text message to one number.
type Message struct {
	To   string // E.164: +49301234567
	Text string
}

// Sender sends text messages, or catches them.
type Sender interface {
	// Send hands the message over, and returns when it was taken. Its errors hold no number, no text and no credential.
	Send(ctx context.Context, m Message) error
}

var e164 = regexp.MustCompile(`^\+[1-9][0-9]{6,14}$`)

// Number reads a telephone number: E.164 with its plus, among spaces, hyphens, dots and brackets as people write them.
func Number(s string) (string, error) {
	if len(s) <= maxWritten {
		s = strings.NewReplacer(" ", "", "\u00a0", "", "-", "", ".", "", "(", "", ")", "", "/", "").Replace(s)
		if e164.MatchString(s) {
			return s, nil
		}
	}
	return "", errors.New("sms: not a telephone number: want + and the country's code, such as +49 30 1234567")
}

// The limits of a message. Ten texts in one is what networks join.
const (
	maxWritten = 40
	maxText    = 1600
)

func (m *Message) check() error {
	if n, err := Number(m.To); err != nil || n != m.To {
		return errors.New("sms: the number is not one")
	}
	if m.Text == "" || len(m.Text) > maxText || !utf8.ValidString(m.Text) {
		return errors.New("sms: the text is empty, too long, or not UTF-8")
	}
	return nil
}

// Mask is a number for the screen: whose it is can be recognised, and not called.
func Mask(number string) string {
	if len(number) < 6 {
		return "•••"
	}
	return number[:3] + " ••• " + number[len(number)-2:]
}

// Job asks for a text message to be sent, once the transaction that wants it has committed. It is a plain row that outlives
// the message: it holds identifiers, never a number or a code.
type Job struct {
	Tenant string            `json:"tenant"`
	IDs    map[string]string `json:"ids"` // what the message is about, as Resolve understands it
}

// Kind names the job in the queue.
func (Job) Kind() string { return "sms.send" }

// InsertOpts gives a text message few tries: who waits for it does not wait long.
func (Job) InsertOpts() river.InsertOpts { return river.InsertOpts{MaxAttempts: 4} }

// Resolve finds the number and the text when the job runs. An empty number means that nobody waits for it any more.
type Resolve func(ctx context.Context, j Job) (Message, error)

// Route finds by whom a job's message is sent: an organisation's region may have a sender of its own, and then no other will do.
// Its error for an organisation without one is ErrNoSender, with what to do about it and no personal data.
type Route func(ctx context.Context, j Job) (Sender, error)

// ErrNoSender means that nothing is configured that may send a message.
var ErrNoSender = errors.New("no sender of text messages is configured for it")

// Worker sends the messages of jobs.
type Worker struct {
	river.WorkerDefaults[Job]
	Route   Route
	Resolve Resolve
}

// Timeout bounds one try.
func (w *Worker) Timeout(*river.Job[Job]) time.Duration { return time.Minute }

// NextRetry is soon.
func (w *Worker) NextRetry(job *river.Job[Job]) time.Time {
	return time.Now().Add(time.Duration(job.Attempt) * 10 * time.Second)
}

// Work sends one message. Its errors are kept in the job's row, so they hold no personal data. What cannot succeed is not
// tried again.
func (w *Worker) Work(ctx context.Context, job *river.Job[Job]) error {
	sender, err := w.Route(ctx, job.Args)
	if errors.Is(err, ErrNoSender) {
		return err
	}
	if err != nil {
		return errors.New("sms: the sender could not be found: " + string(problem.Of(err).Kind))
	}
	m, err := w.Resolve(ctx, job.Args)
	if err != nil {
		return errors.New("sms: the number and the text could not be found: " + string(problem.Of(err).Kind))
	}
	if m.To == "" {
		return river.JobCancel(errors.New("sms: nobody waits for it any more"))
	}
	if err := sender.Send(ctx, m); err != nil {
		var refused *Error
		if !errors.As(err, &refused) {
			return errors.New("sms: it could not be sent")
		}
		if refused.Permanent {
			return river.JobCancel(refused)
		}
		return refused
	}
	return nil
}
