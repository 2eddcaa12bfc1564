package portable

import (
	"encoding/base64"
	"errors"
	"fmt"
	"math"
	"net/url"
	"slices"
	"strings"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/avouch-dev/avouch/internal/otp"
	"github.com/avouch-dev/avouch/internal/secret"
)

// migrationScheme is what Google Authenticator exports: pictures of addresses that hold up to ten seeds each, a protocol buffer that
// its source calls MigrationPayload:
//
//	repeated OtpParameters otp_parameters = 1; int32 version = 2, batch_size = 3, batch_index = 4, batch_id = 5
//	OtpParameters: bytes secret = 1; string name = 2, issuer = 3; enum algorithm = 4, digits = 5, type = 6; int64 counter = 7
const migrationScheme = "otpauth-migration://"

// mostBatches bounds a migration: a thousand pictures are ten thousand seeds.
const mostBatches = 1000

// migration gathers the batches of exports, each known by its id.
type migration struct{ sets []*batches }

type batches struct {
	id   int64
	size int64
	seen []int64
}

type payload struct {
	entries         []parameterised
	size, index, id int64
}

// parameterised is one OtpParameters, and what is wrong with it.
type parameterised struct {
	Entry
	err error
}

func (m *migration) take(r *Reading, place, text string) {
	p, err := decodeMigration(text)
	if err != nil {
		r.Faults = append(r.Faults, Fault{place, err.Error()})
		return
	}
	set := m.of(p)
	if slices.Contains(set.seen, p.index) {
		r.Faults = append(r.Faults, Fault{place, fmt.Sprintf("part %d of %d is there twice", p.index+1, p.size)})
		return
	}
	set.seen = append(set.seen, p.index)
	for i, e := range p.entries {
		r.add(fmt.Sprintf("%s, entry %d", place, i+1), e.Entry, e.err)
	}
}

func (m *migration) of(p payload) *batches {
	for _, s := range m.sets {
		if s.id == p.id && s.size == p.size {
			return s
		}
	}
	s := &batches{id: p.id, size: p.size}
	m.sets = append(m.sets, s)
	return s
}

// end says what is missing.
func (m *migration) end(r *Reading) {
	for _, s := range m.sets {
		var missing []string
		for i := range s.size {
			if !slices.Contains(s.seen, i) {
				missing = append(missing, fmt.Sprint(i+1))
			}
		}
		if len(missing) > 0 {
			r.Faults = append(r.Faults, Fault{"the export of Google Authenticator", fmt.Sprintf("it has %d parts, of which these are missing: %s. All of them are read together", s.size, strings.Join(missing, ", "))})
		}
	}
}

func decodeMigration(text string) (p payload, err error) {
	_, query, _ := strings.Cut(text, "?")
	var data string
	for pair := range strings.SplitSeq(query, "&") {
		if value, ok := strings.CutPrefix(pair, "data="); ok {
			data = value
		}
	}
	if data, err = url.PathUnescape(data); err != nil || data == "" { // a + is a digit of base64 here, also where it was not encoded
		return p, errors.New("it holds no data")
	}
	data = strings.NewReplacer("-", "+", "_", "/", " ", "+").Replace(strings.TrimRight(data, "="))
	raw, err := base64.RawStdEncoding.DecodeString(data)
	if err != nil {
		return p, errors.New("its data is not base64: a part of it is missing")
	}
	defer clear(raw)
	p.size = 1
	err = fields(raw, func(n protowire.Number, number uint64, bytes []byte) error {
		switch n {
		case 1:
			if bytes == nil {
				return errors.New("its data is none of Google Authenticator's")
			}
			p.entries = append(p.entries, decodeParameters(bytes))
		case 3:
			p.size = int64(int32(number))
		case 4:
			p.index = int64(int32(number))
		case 5:
			p.id = int64(int32(number))
		}
		return nil
	})
	if err == nil && (p.size < 1 || p.size > mostBatches || p.index < 0 || p.index >= p.size) {
		err = fmt.Errorf("it says that it is part %d of %d", p.index+1, p.size)
	}
	return p, err
}

// fields goes through the fields of a message: numbers, and those that have a length, which are not nil.
func fields(b []byte, field func(n protowire.Number, number uint64, bytes []byte) error) error {
	for len(b) > 0 {
		n, kind, size := protowire.ConsumeTag(b)
		if size < 0 {
			return errors.New("its data is none of Google Authenticator's, or a part of it is missing")
		}
		b = b[size:]
		var number uint64
		var bytes []byte
		switch kind {
		case protowire.VarintType:
			number, size = protowire.ConsumeVarint(b)
		case protowire.BytesType:
			bytes, size = protowire.ConsumeBytes(b)
			if bytes == nil {
				bytes = []byte{}
			}
		default:
			size = protowire.ConsumeFieldValue(n, kind, b)
		}
		if size < 0 {
			return errors.New("its data is none of Google Authenticator's, or a part of it is missing")
		}
		b = b[size:]
		if err := field(n, number, bytes); err != nil {
			return err
		}
	}
	return nil
}

// decodeParameters reads one seed. What the app leaves out is what it shows: SHA1, six digits, by time.
func decodeParameters(b []byte) (e parameterised) {
	e.Kind, e.Scheme = otp.TOTP, otp.Usual()
	var name string
	e.err = fields(b, func(n protowire.Number, number uint64, bytes []byte) error {
		switch n {
		case 1:
			e.Key = secret.Own(slices.Clone(bytes))
		case 2:
			name = string(bytes)
		case 3:
			e.Issuer = string(bytes)
		case 7:
			if number > math.MaxInt64 {
				return errors.New("its counter is below zero")
			}
			e.Counter = number
		case 4, 5, 6:
			return e.enumerated(n, number)
		}
		return nil
	})
	if e.err == nil {
		e.Issuer, e.Account, e.err = names(strings.ReplaceAll(name, "%", "%25"), e.Issuer) // nothing is encoded here
	}
	if e.Kind == otp.HOTP {
		e.Scheme.Period = 0
	}
	return e
}

func (e *parameterised) enumerated(field protowire.Number, value uint64) error {
	switch field {
	case 4:
		names := map[uint64]otp.Algorithm{0: otp.SHA1, 1: otp.SHA1, 2: otp.SHA256, 3: otp.SHA512}
		if e.Scheme.Algorithm = names[value]; e.Scheme.Algorithm == "" {
			return errors.New("its algorithm is none of SHA1, SHA256 and SHA512")
		}
	case 5:
		digits := map[uint64]int{0: 6, 1: 6, 2: 8, 3: 7}
		if e.Scheme.Digits = digits[value]; e.Scheme.Digits == 0 {
			return errors.New("its number of digits is unknown")
		}
	case 6:
		kinds := map[uint64]otp.Kind{0: otp.TOTP, 1: otp.HOTP, 2: otp.TOTP}
		if e.Kind = kinds[value]; e.Kind == "" {
			return errors.New("its kind is none of totp and hotp")
		}
	}
	return nil
}
