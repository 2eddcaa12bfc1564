package portable

import (
	"bytes"
	"context"
	"encoding/binary"
	"hash/crc32"
	"image"
	"image/color"
	"image/draw"
	"image/jpeg"
	"image/png"
	"testing"

	"github.com/boombuler/barcode"
	"github.com/boombuler/barcode/qr"
	"github.com/google/go-cmp/cmp"

	"github.com/avouch-dev/avouch/internal/otp"
	"github.com/avouch-dev/avouch/internal/secret"
)

// code draws a QR code of so many pixels; another library than the one that reads it.
func code(t testing.TB, text string, size int) image.Image {
	t.Helper()
	c, err := qr.Encode(text, qr.M, qr.Auto)
	if err == nil {
		c, err = barcode.Scale(c, size, size)
	}
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func onPNG(t testing.TB, m image.Image) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := png.Encode(&b, m); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// paper is a page with codes on it.
func paper(width, height int, back color.Color, codes ...image.Image) *image.RGBA {
	m := image.NewRGBA(image.Rect(0, 0, width, height))
	draw.Draw(m, m.Bounds(), image.NewUniform(back), image.Point{}, draw.Src)
	x := 40
	for _, c := range codes {
		draw.Draw(m, c.Bounds().Add(image.Pt(x, 40)), c, image.Point{}, draw.Src)
		x += c.Bounds().Dx() + 40
	}
	return m
}

func TestPictures(t *testing.T) {
	t.Parallel()
	const one, two = "otpauth://totp/A:b?secret=" + hello, "otpauth://hotp/C:d?secret=" + hello + "&counter=3"
	first := plain{Kind: otp.TOTP, Issuer: "A", Account: "b", Key: helloBytes, Scheme: otp.Usual()}
	second := plain{Kind: otp.HOTP, Issuer: "C", Account: "d", Key: helloBytes, Scheme: otp.Scheme{Algorithm: otp.SHA1, Digits: 6}, Counter: 3}
	small := paper(400, 400, color.White, code(t, one, 300))
	var shot bytes.Buffer
	if err := jpeg.Encode(&shot, small, &jpeg.Options{Quality: 60}); err != nil {
		t.Fatal(err)
	}
	clear := image.NewNRGBA(image.Rect(0, 0, 400, 400)) // black on nothing
	c := code(t, one, 300)
	for y := range 300 {
		for x := range 300 {
			if r, _, _, _ := c.At(x, y).RGBA(); r == 0 {
				clear.Set(x+50, y+50, color.Black)
			}
		}
	}
	for name, v := range map[string]struct {
		data []byte
		want []plain
	}{
		"PNG":              {onPNG(t, small), []plain{first}},
		"JPEG":             {shot.Bytes(), []plain{first}},
		"transparent":      {onPNG(t, clear), []plain{first}},
		"on a grey screen": {onPNG(t, paper(900, 700, color.Gray{200}, code(t, one, 250))), []plain{first}},
		"two of them":      {onPNG(t, paper(800, 400, color.White, code(t, one, 300), code(t, two, 300))), []plain{first, second}},
		"a migration":      {onPNG(t, paper(600, 600, color.White, code(t, exported([]Entry{entryOf(t, one), entryOf(t, two)}, 1, 0, 9), 500))), []plain{first, second}},
	} {
		r, err := Read(context.Background(), FormatQR, v.data, secret.String{})
		if err != nil || len(r.Faults) > 0 {
			t.Errorf("%s: %v, %v", name, err, r.Faults)
			continue
		}
		got := all(r)
		if len(got) == 2 && got[0].Kind == otp.HOTP {
			got[0], got[1] = got[1], got[0] // which of two comes first is no matter
		}
		if d := cmp.Diff(v.want, got); d != "" {
			t.Errorf("%s: %s", name, d)
		}
	}
}

func entryOf(t testing.TB, text string) Entry {
	t.Helper()
	e, err := URI(text)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// header is the beginning of a PNG that says how large it is.
func header(width, height uint32) []byte {
	chunk := append([]byte("IHDR"), binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(nil, width), height)...)
	chunk = append(chunk, 8, 0, 0, 0, 0)
	b := binary.BigEndian.AppendUint32([]byte("\x89PNG\r\n\x1a\n"), uint32(len(chunk)-4))
	return binary.BigEndian.AppendUint32(append(b, chunk...), crc32.ChecksumIEEE(chunk))
}

func FuzzPicture(f *testing.F) {
	f.Add(onPNG(f, paper(120, 120, color.White, code(f, "otpauth://totp/A:b?secret="+hello, 60))))
	f.Add(header(10, 10))
	f.Fuzz(func(t *testing.T, data []byte) {
		if c, _, err := image.DecodeConfig(bytes.NewReader(data)); err == nil && c.Width*c.Height > 1<<16 {
			t.Skip("skipped: large pictures are slow")
		}
		_, _ = Read(context.Background(), FormatQR, data, secret.String{})
	})
}
