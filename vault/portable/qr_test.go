package portable

import (
	"bytes"
	"compress/zlib"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"image"
	"image/color"
	"image/draw"
	"image/gif"
	"image/jpeg"
	"io"
	"math"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/makiuchi-d/gozxing"
	"github.com/makiuchi-d/gozxing/qrcode/detector"

	"github.com/avouch-dev/avouch/internal/secret"
)

// grid is a picture full of corners of QR codes, which belong to none: 7 pixels each, in cells of 10.
func grid(width, height int, ink, paper color.Gray) *image.Gray {
	m := image.NewGray(image.Rect(0, 0, width, height))
	for y := range height {
		for x := range width {
			m.SetGray(x, y, paper)
			if i, j := x%10-1, y%10-1; i >= 0 && i < 7 && j >= 0 && j < 7 && (i == 0 || i == 6 || j == 0 || j == 6 || i > 1 && i < 5 && j > 1 && j < 5) {
				m.SetGray(x, y, ink)
			}
		}
	}
	return m
}

// stripes look like a corner in each line, and have no end: it takes all of a column to see that each is none.
func stripes(width, height int) *image.Gray {
	m := image.NewGray(image.Rect(0, 0, width, height))
	for i := range m.Pix {
		if x := i % m.Stride % 14; x/2 == 1 || x/2 == 5 { // 1:1:3:1:1, two pixels each
			m.Pix[i] = 255
		}
	}
	return m
}

// turned is a picture seen from aside: turned by an angle, and narrower at its right.
func turned(m image.Image, angle, aside float64) *image.Gray {
	b := m.Bounds()
	out := image.NewGray(b)
	w, h := float64(b.Dx()), float64(b.Dy())
	for y := range b.Dy() {
		for x := range b.Dx() {
			u, v := float64(x)-w/2, float64(y)-h/2
			v /= 1 - aside*u/w
			sx, sy := u*math.Cos(angle)+v*math.Sin(angle)+w/2, v*math.Cos(angle)-u*math.Sin(angle)+h/2
			out.SetGray(x, y, color.Gray{255})
			if p := image.Pt(int(sx), int(sy)); sx >= 0 && sy >= 0 && p.In(b) {
				out.Set(x, y, m.At(p.X, p.Y))
			}
		}
	}
	return out
}

// TestPicturesEnd: pictures of a few hundred bytes, of what looks like QR codes and is none, are refused before they cost anything.
func TestPicturesEnd(t *testing.T) {
	t.Parallel()
	black, white := color.Gray{0}, color.Gray{255}
	for name, m := range map[string]image.Image{
		"a grid": grid(140, 140, black, white), "a large one": grid(600, 400, black, white), "white on black": grid(300, 200, white, black),
		"turned": turned(grid(300, 300, black, white), 0.3, 0), "from aside": turned(grid(300, 300, black, white), math.Pi/4, 0.4), "in one line": grid(2000, 40, black, white),
		"a faint one": grid(300, 200, color.Gray{110}, color.Gray{132}), "a few": grid(80, 80, black, white), "stripes": stripes(350, 350), "long stripes": stripes(30, 4000), "wide ones": turned(stripes(350, 350), math.Pi/2, 0),
	} {
		begun := time.Now()
		_, err := Read(t.Context(), FormatQR, onPNG(t, m), secret.String{})
		if took := time.Since(begun); !errors.Is(err, ErrFormat) || took > 10*time.Second {
			t.Errorf("%s: %v after %v", name, err, took)
		}
		if name == "a grid" && !strings.Contains(err.Error(), "over 64 squares") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// leaving is the context of somebody who goes away after so many looks at it.
type leaving struct {
	context.Context
	looks int
}

func (l *leaving) Err() error {
	if l.looks--; l.looks < 0 {
		return context.Canceled
	}
	return nil
}

// TestPicturesHeed: whoever goes away is not worked for, and nobody is worked for longer than a picture can be worth, in each of the
// stages: decoding, in grey, looking for corners, and trying them.
func TestPicturesHeed(t *testing.T) {
	t.Parallel()
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	endless := stripes(300, 300)
	data := onPNG(t, endless)
	if _, err := Read(gone, FormatQR, data, secret.String{}); !errors.Is(err, context.Canceled) {
		t.Errorf("of who went: %v", err)
	}
	if _, err := pictured(t.Context(), data, 0); !errors.Is(err, ErrFormat) || !strings.Contains(err.Error(), "too long") {
		t.Errorf("without end: %v", err)
	}
	soon := func() context.Context { return &leaving{t.Context(), 3} }
	if b, err := io.ReadAll(&patient{soon(), make([]byte, 10_000)}); !errors.Is(err, context.Canceled) || len(b) == 0 || len(b) > 3*512 {
		t.Errorf("decoding: %d bytes, %v", len(b), err)
	}
	if n, err := (&patient{soon(), make([]byte, 10_000)}).Read(make([]byte, 4096)); n != 512 || err != nil {
		t.Errorf("decoding: %d bytes at once, %v", n, err)
	}
	if _, err := greyed(soon(), endless); !errors.Is(err, context.Canceled) {
		t.Errorf("grey: %v", err)
	}
	black, err := gozxing.NewBitMatrix(300, 300)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := corners(soon(), black); !errors.Is(err, context.Canceled) {
		t.Errorf("corners: %v", err)
	}
	if _, err := codes(&leaving{t.Context(), 0}, newGrey(40, 40)); !errors.Is(err, context.Canceled) {
		t.Errorf("black and white: %v", err)
	}
	all := make([]triple, 4)
	for i := range all {
		p := detector.NewFinderPattern1(float64(i), 1, 1)
		all[i].of = [3]*detector.FinderPattern{p, p, p}
	}
	if _, err := decoded(soon(), black, all); !errors.Is(err, context.Canceled) {
		t.Errorf("tries: %v", err)
	}
	// And they are looked at often enough: what takes longest of all, between two looks, takes no time that anybody notices.
	g := &grey{gozxing.LuminanceSourceBase{Width: 2000, Height: 2000}, stripes(2000, 2000).Pix}
	begun := time.Now()
	if _, err := codes(&leaving{t.Context(), 20}, g); !errors.Is(err, context.Canceled) || time.Since(begun) > 5*time.Second {
		t.Errorf("all of it: %v after %v", err, time.Since(begun))
	}
}

// TestTriples: three corners are tried that may be those of a code, the likeliest first.
func TestTriples(t *testing.T) {
	t.Parallel()
	at := func(x, y, size float64) *detector.FinderPattern { return detector.NewFinderPattern1(x, y, size) }
	for name, c := range map[string]struct {
		of   [3]*detector.FinderPattern
		want bool
	}{
		"a code": {[3]*detector.FinderPattern{at(0, 0, 2), at(60, 0, 2), at(0, 60, 2)}, true}, "from aside": {[3]*detector.FinderPattern{at(0, 0, 2), at(60, 10, 2.5), at(-10, 40, 2)}, true},
		"in one line": {[3]*detector.FinderPattern{at(0, 0, 2), at(60, 0, 2), at(120, 0, 2)}, false}, "one is larger": {[3]*detector.FinderPattern{at(0, 0, 2), at(60, 0, 2), at(0, 60, 3)}, false},
		"too near": {[3]*detector.FinderPattern{at(0, 0, 2), at(16, 0, 2), at(0, 16, 2)}, false}, "too far": {[3]*detector.FinderPattern{at(0, 0, 2), at(400, 0, 2), at(0, 400, 2)}, false},
	} {
		if tr := (triple{of: c.of}); tr.measure() != c.want {
			t.Errorf("%s: %v", name, !c.want)
		}
	}
	all := triples([]*detector.FinderPattern{at(30, 45, 2), at(0, 0, 2), at(60, 0, 2), at(0, 60, 2)})
	if len(all) < 2 || all[0].of[0].GetX() != 0 || all[0].skew > all[len(all)-1].skew {
		t.Errorf("%d, first %+v", len(all), all)
	}
}

// TestManyCodes: several codes in one picture, such as the batches of an export on a table, are all read, as they lie and from aside.
func TestManyCodes(t *testing.T) {
	t.Parallel()
	for _, n := range []int{3} {
		var codes []image.Image
		want := map[string]bool{}
		for i := range n {
			text := exported([]Entry{entryOf(t, fmt.Sprintf("otpauth://totp/A:%d?secret=%s", i, hello))}, int32(n), int32(n-1-i), 7)
			codes, want[fmt.Sprint(i)] = append(codes, code(t, text, 150)), true
		}
		flat := paper(190*n+40, 190*n+40, color.White, codes...)
		lower := image.NewGray(flat.Bounds())
		for y := range lower.Rect.Dy() {
			for x := range lower.Rect.Dx() { // in the middle, so that nothing is cut off when it is turned
				lower.Set(x, y, flat.At(x, (y-lower.Rect.Dy()/2+115+flat.Rect.Dy())%flat.Rect.Dy()))
			}
		}
		for _, how := range [][2]float64{{0, 0}, {math.Pi / 2, 0}, {math.Pi, 0}, {0.2, 0}, {-0.35, 0.1}} {
			r, err := Read(t.Context(), FormatQR, onPNG(t, turned(lower, how[0], how[1])), secret.String{})
			if err != nil || len(r.Faults) > 0 || len(r.Entries) != n {
				t.Errorf("%d codes, %v: %v, %v, %v", n, how, all(r), r.Faults, err)
				continue
			}
			for _, e := range r.Entries {
				if !want[e.Account] {
					t.Errorf("read %v", shown(e))
				}
			}
		}
	}
}

// TestLight: what is faint is read by the one way of telling black from white, and what is in a shadow by the other.
func TestLight(t *testing.T) {
	t.Parallel()
	m := paper(400, 400, color.White, code(t, "otpauth://totp/A:b?secret="+hello, 300))
	faint, shadow := image.NewGray(m.Bounds()), image.NewGray(m.Bounds())
	for i := range faint.Pix {
		white := int(m.Pix[4*i] / 255)
		faint.Pix[i] = byte(110 + 22*white)
		shadow.Pix[i] = byte((60 + i%400*190/400) * (1 + white) / 2)
	}
	for name, m := range map[string]image.Image{"faint": faint, "in a shadow": shadow} {
		if r, err := Read(t.Context(), FormatQR, onPNG(t, m), secret.String{}); err != nil || len(r.Entries) != 1 {
			t.Errorf("%s: %v, %v", name, all(r), err)
		}
	}
}

// deep is a PNG in the deepest colours, of one colour.
func deep(width, height int) []byte {
	out := bytes.NewBufferString("\x89PNG\r\n\x1a\n")
	chunk := func(name string, data []byte) {
		binary.Write(out, binary.BigEndian, uint32(len(data)))
		whole := append([]byte(name), data...)
		out.Write(whole)
		binary.Write(out, binary.BigEndian, crc32.ChecksumIEEE(whole))
	}
	size := binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(nil, uint32(width)), uint32(height))
	chunk("IHDR", append(size, 16, 6, 0, 0, 0))
	var packed bytes.Buffer
	w, _ := zlib.NewWriterLevel(&packed, zlib.BestSpeed)
	line := make([]byte, 1+8*width)
	for range height {
		w.Write(line)
	}
	w.Close()
	chunk("IDAT", packed.Bytes())
	chunk("IEND", nil)
	return out.Bytes()
}

// TestPicturesFit: a picture takes no more memory than is counted for it, of whatever kind it is. It is not parallel, since it counts what
// is allocated.
func TestPicturesFit(t *testing.T) {
	const side = 300
	all := image.Rect(0, 0, side, side)
	odd := func(m draw.Image) image.Image { // no kind that the encoder could make simpler
		m.Set(1, 1, color.NRGBA64{40_000, 20_001, 3, 0x8000})
		return m
	}
	jpg := func(m image.Image) []byte {
		var b bytes.Buffer
		if err := jpeg.Encode(&b, m, nil); err != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	}
	for name, data := range map[string][]byte{
		"grey": onPNG(t, image.NewGray(all)), "deep grey": onPNG(t, image.NewGray16(all)), "colours": onPNG(t, odd(image.NewNRGBA(all))), "deep colours": onPNG(t, odd(image.NewNRGBA64(all))), "the deepest": deep(side, side),
		"a palette": onPNG(t, image.NewPaletted(all, color.Palette{color.Black, color.White, color.Transparent})), "grey JPEG": jpg(image.NewGray(all)), "JPEG": jpg(image.NewRGBA(all)),
	} {
		header, format, err := image.DecodeConfig(bytes.NewReader(data))
		if err != nil {
			t.Fatal(err)
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		if _, err := Picture(t.Context(), data); !errors.Is(err, ErrFormat) || strings.Contains(err.Error(), "damaged") {
			t.Errorf("%s: %v", name, err)
		}
		runtime.ReadMemStats(&after)
		took, counted := after.TotalAlloc-before.TotalAlloc, uint64(side*side*depth(header.ColorModel, format, data))
		if took > counted+1<<19 || took < side*side {
			t.Errorf("%s: it took %d KiB, and %d were counted", name, took>>10, counted>>10)
		}
	}
}

// jpegHead is the beginning of a JPEG: of frames of a kind, with components of these names.
func jpegHead(kind byte, width, height int, names string) []byte {
	b := append([]byte("\xff\xd8"), 0xff, 0xee, 0, 14)
	b = append(b, "Adobe\x00d\x00\x00\x00\x00\x01"...)
	b = append(b, 0xff, kind, 0, byte(8+3*len(names)), 8, byte(height>>8), byte(height), byte(width>>8), byte(width), byte(len(names)))
	for i := range len(names) {
		b = append(b, names[i], 0x11, 0)
	}
	return append(b, 0xff, 0xda, 0, 2)
}

// TestPicturesByHeader: what a picture would take is known before it is decoded, from what it is of.
func TestPicturesByHeader(t *testing.T) {
	t.Parallel()
	kind := func(b []byte, depth, colours, interlaced byte, more string) []byte {
		b[24], b[25], b[28] = depth, colours, interlaced
		b = b[:29]
		return append(binary.BigEndian.AppendUint32(b, crc32.ChecksumIEEE(b[12:])), more...)
	}
	var moving bytes.Buffer // which Go reads once somebody in the program wants it to
	if err := gif.Encode(&moving, image.NewGray(image.Rect(0, 0, 9, 9)), nil); err != nil {
		t.Fatal(err)
	}
	const usual, progressive = 0xc0, 0xc2
	for name, c := range map[string]struct {
		data []byte
		want string
	}{
		"grey": {header(4000, 6000), "damaged"}, "a pixel too many": {header(4000, 6001), "over 24 million"}, "nearly as many as there can be": {header(60_000, 60_000), "over 24 million"},
		"long": {header(20_001, 10), "in a line"}, "high": {header(10, 20_001), "in a line"}, "as long as can be": {header(20_000, 10), "damaged"},
		"deep": {kind(header(4000, 6000), 16, 6, 0, ""), "damaged"}, "deep, interlaced": {kind(header(4000, 6000), 16, 6, 1, ""), "takes over"}, "colours, interlaced": {kind(header(4000, 6000), 8, 6, 1, ""), "damaged"},
		"deep grey, interlaced": {kind(header(4000, 6000), 16, 0, 1, ""), "damaged"}, "deep grey, interlaced, in part transparent": {kind(header(4000, 6000), 16, 0, 1, "\x00\x00\x00\x02tRNS\x00\x00"), "takes over"},
		"a palette": {kind(header(4000, 6000), 8, 3, 1, "\x00\x00\x00\x03PLTE\x00\x00\x00\xa7\x7a\x3d\xda\x00\x00\x00\x01tRNS\x00\x40\xe6\xd8\x66"), "damaged"},
		"JPEG":      {jpegHead(usual, 4000, 6000, "\x01\x02\x03"), "damaged"}, "progressive": {jpegHead(progressive, 4000, 6000, "\x01\x02\x03"), "takes over"}, "progressive, of a telephone": {jpegHead(progressive, 4032, 3024, "\x01\x02\x03"), "damaged"},
		"grey JPEG, progressive": {jpegHead(progressive, 4000, 6000, "\x01"), "damaged"}, "RGB": {jpegHead(usual, 4000, 6000, "RGB"), "damaged"}, "RGB, progressive": {jpegHead(progressive, 4000, 3200, "RGB"), "takes over"},
		"CMYK": {jpegHead(usual, 4000, 6000, "CMYK"), "damaged"}, "CMYK, progressive": {jpegHead(progressive, 3200, 3200, "CMYK"), "takes over"}, "small CMYK, progressive": {jpegHead(progressive, 3000, 3000, "CMYK"), "damaged"},
		"no picture": {[]byte("otpauth://"), "neither"}, "another kind": {moving.Bytes(), "neither"},
	} {
		if _, err := Picture(t.Context(), c.data); !errors.Is(err, ErrFormat) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}
