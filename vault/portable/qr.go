package portable

import (
	"cmp"
	"context"
	"errors"
	"math"
	"slices"

	"github.com/makiuchi-d/gozxing"
	"github.com/makiuchi-d/gozxing/qrcode/decoder"
	"github.com/makiuchi-d/gozxing/qrcode/detector"
)

// The library's own search for QR codes goes through each three of the squares that look like a corner of one, and cannot be stopped: of
// two hundred, on a picture of 500 bytes, for seconds, and of 2,400 for minutes. So what is slow in it is done here, with bounds, a look
// at the context on each line and before each try, and the parts of the library: they judge a corner, straighten a code, and decode it.
const (
	mostCorners = 64  // three are a code; photographs have some that are none
	mostTries   = 300 // of three corners
)

// errTooMany is that a picture holds more corners than are looked at.
var errTooMany = errors.New("too many")

// grey is a picture as the library takes it.
type grey struct {
	gozxing.LuminanceSourceBase
	light []byte
}

func newGrey(width, height int) *grey {
	return &grey{gozxing.LuminanceSourceBase{Width: width, Height: height}, make([]byte, width*height)}
}

// GetRow is of gozxing.LuminanceSource, as are the others.
func (g *grey) GetRow(y int, _ []byte) ([]byte, error) {
	return g.light[y*g.Width : (y+1)*g.Width], nil
}

// GetMatrix is all of it.
func (g *grey) GetMatrix() []byte { return g.light }

// Invert is what the library can do with it.
func (g *grey) Invert() gozxing.LuminanceSource { return gozxing.LuminanceSourceInvert(g) }

// String tells nothing of what it shows.
func (g *grey) String() string { return "a picture" }

// codes are the texts of a picture's QR codes, each once. Black and white are told apart in two ways: by what is around each part, for
// photographs and shadows, and by the whole, for what is drawn.
func codes(ctx context.Context, g *grey) (texts []string, err error) {
	tooMany := false
	for _, b := range []gozxing.Binarizer{gozxing.NewHybridBinarizer(g), gozxing.NewGlobalHistgramBinarizer(g)} {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		black, err := b.GetBlackMatrix()
		if err != nil {
			continue // all of it is of one colour
		}
		all, err := corners(ctx, black)
		if errors.Is(err, errTooMany) {
			tooMany = true
			continue
		}
		if err == nil {
			texts, err = decoded(ctx, black, triples(all))
		}
		if err != nil || len(texts) > 0 {
			return texts, err
		}
	}
	if tooMany {
		return nil, malformed("over %d squares in it look like corners of QR codes: cut the codes out of it", mostCorners)
	}
	return nil, nil
}

// corners are what looks like a corner of a QR code: seven modules across, of which one is black, one white, three black, one white and
// one black.
func corners(ctx context.Context, black *gozxing.BitMatrix) ([]*detector.FinderPattern, error) {
	f := detector.NewFinderPatternFinder(black, nil)
	width := black.GetWidth()
	for y := detector.FinderPatternFinder_MIN_SKIP - 1; y < black.GetHeight(); y += detector.FinderPatternFinder_MIN_SKIP {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		runs, at := make([]int, 5), 0 // how long each of the five is, and in which we are: the even ones are black
		for x := range width {
			if black.Get(x, y) == (at&1 == 0) {
				runs[at]++
				continue
			}
			switch {
			case at < 4 && (at > 0 || runs[0] > 0):
				at++
				runs[at]++
			case at == 4 && detector.FinderPatternFinder_foundPatternCross(runs) && f.HandlePossibleCenter(runs, y, x):
				detector.FinderPatternFinder_ClearCounts(runs)
				at = 0
			case at == 4:
				detector.FinderPatternFinder_ShiftCounts2(runs)
				at = 3
			}
		}
		if at == 4 && detector.FinderPatternFinder_foundPatternCross(runs) {
			f.HandlePossibleCenter(runs, y, width)
		}
		if len(f.GetPossibleCenters()) > mostCorners {
			return nil, errTooMany
		}
	}
	return f.GetPossibleCenters(), nil
}

// triple is three corners, and how far they are from the half of a square that those of a code are.
type triple struct {
	of   [3]*detector.FinderPattern
	skew float64
}

// triples are those that may be codes, the likeliest first. Of sizes and distances it is as generous as the library is where it looks
// for one code: photographs are taken from aside.
func triples(all []*detector.FinderPattern) (out []triple) {
	for i, a := range all {
		for j := i + 1; j < len(all); j++ {
			for _, c := range all[j+1:] {
				t := triple{of: [3]*detector.FinderPattern{a, all[j], c}}
				if t.measure() {
					out = append(out, t)
				}
			}
		}
	}
	slices.SortFunc(out, func(a, b triple) int { return cmp.Compare(a.skew, b.skew) })
	return out
}

func (t *triple) measure() bool {
	size := make([]float64, 3)
	squares := make([]float64, 3)
	for i, p := range t.of {
		q := t.of[(i+1)%3]
		size[i] = p.GetEstimatedModuleSize()
		squares[i] = math.Pow(p.GetX()-q.GetX(), 2) + math.Pow(p.GetY()-q.GetY(), 2)
	}
	slices.Sort(squares)
	least, most := slices.Min(size), slices.Max(size)
	modules := (math.Sqrt(squares[0]) + math.Sqrt(squares[1])) / 2 / ((least + most) / 2)
	t.skew = (math.Abs(squares[2]-2*squares[1]) + math.Abs(squares[2]-2*squares[0])) / squares[2]
	return most <= 1.4*least && modules >= 9 && modules <= 180 && t.skew < 1
}

// decoded are the texts of those that are codes. The corners of one are no other's.
func decoded(ctx context.Context, black *gozxing.BitMatrix, all []triple) (texts []string, err error) {
	taken := map[*detector.FinderPattern]bool{}
	tries := 0
	for _, t := range all {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if taken[t.of[0]] || taken[t.of[1]] || taken[t.of[2]] {
			continue
		}
		if tries++; tries > mostTries {
			break
		}
		low, left, right := gozxing.ResultPoint_OrderBestPatterns(t.of[0], t.of[1], t.of[2])
		info := detector.NewFinderPatternInfo(low.(*detector.FinderPattern), left.(*detector.FinderPattern), right.(*detector.FinderPattern))
		straight, err := detector.NewDetector(black).ProcessFinderPatternInfo(info)
		if err != nil {
			continue // it is none
		}
		result, err := decoder.NewDecoder().Decode(straight.GetBits(), nil)
		if err != nil {
			continue
		}
		texts = appendNew(texts, result.GetText())
		taken[t.of[0]], taken[t.of[1]], taken[t.of[2]] = true, true, true
	}
	return texts, nil
}
