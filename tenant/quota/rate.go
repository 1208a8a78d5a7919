package quota

import "math"

// Windows over which use is measured: Kafka's quota.window.num and
// quota.window.size.seconds.
const (
	Samples      = 11
	WindowMillis = 1000
	// MutationSamples are controller.quota.window.num.
	MutationSamples = 11
)

// LongestMillis bounds each wait: it is the longest that an answer can tell of, and a
// budget that is next to nothing means waits that no number holds.
const LongestMillis = math.MaxInt32

// millis is a wait in whole milliseconds.
func millis(wait float64) int64 {
	if wait < LongestMillis {
		return int64(math.Round(max(wait, 0)))
	}
	return LongestMillis // infinite, and what is no number, are
}

// sample is one window of a rate.
type sample struct {
	start, last int64 // ms
	value       float64
}

// Rate is the use of something by the second, over the last Samples windows, as
// Kafka's Rate over a WindowedSum measures it. It is for one goroutine at a time.
type Rate struct {
	// One more than counts: the oldest overlaps the measured window.
	samples [Samples + 1]sample
	n, at   int
}

// Record adds value at a time, ms. A negative one takes back what was recorded.
func (r *Rate) Record(value float64, now int64) {
	if r.n == 0 {
		r.n, r.samples[0] = 1, sample{start: now, last: now}
	}
	s := &r.samples[r.at]
	if now-s.start >= WindowMillis {
		r.at = (r.at + 1) % len(r.samples)
		r.n = max(r.n, r.at+1)
		s = &r.samples[r.at]
		*s = sample{start: now, last: now}
	}
	s.value += value
	s.last = now
}

// Measure returns the rate by the second, and the window that it was measured over, ms.
func (r *Rate) Measure(now int64) (rate float64, window int64) {
	if r.n == 0 {
		r.n, r.samples[0] = 1, sample{start: now, last: now}
	}
	total, oldest := 0.0, int64(math.MaxInt64)
	for i := range r.samples[:r.n] {
		s := &r.samples[i]
		if now-s.last >= Samples*WindowMillis {
			*s = sample{start: now, last: now}
		}
		total += s.value
		oldest = min(oldest, s.start)
	}
	window = now - oldest
	// A rate is taken over at least all windows but the last, so that a client
	// that has just begun is not held for its first bytes.
	if full := window / WindowMillis; full < Samples-1 {
		window += (Samples - 1 - full) * WindowMillis
	}
	window = max(window, 1)
	return total / (float64(window) / 1000), window
}

// Throttle returns for how long, ms, nothing more may come until the rate is
// back at limit: with O observed over W, (O - limit) / limit * W.
func (r *Rate) Throttle(limit float64, now int64) int64 {
	rate, window := r.Measure(now)
	if rate <= limit {
		return 0
	}
	return millis((rate - limit) / limit * float64(window))
}

// Largest returns how much can be recorded at once at most without being
// throttled for certain.
func Largest(limit float64) float64 { return limit * (Samples - 1) * WindowMillis / 1000 }

// Bucket is a token bucket: it fills at a limit by the second, up to
// MutationSamples seconds' worth, and may be overdrawn (KIP-599).
type Bucket struct {
	tokens float64
	at     int64 // ms
}

// fill brings the bucket to a time. A bucket that was never used is full.
func (b *Bucket) fill(limit float64, now int64) {
	most := limit * MutationSamples * WindowMillis / 1000
	if b.at == 0 {
		b.tokens = most
	}
	b.tokens = min(most, b.tokens+limit*float64(now-b.at)/1000)
	b.at = now
}

// Wait returns for how long, ms, the bucket is overdrawn.
func (b *Bucket) Wait(limit float64, now int64) int64 {
	b.fill(limit, now)
	if b.tokens >= 0 {
		return 0
	}
	return millis(-b.tokens / limit * 1000)
}

// Take takes tokens out, more than there are if need be.
func (b *Bucket) Take(n, limit float64, now int64) {
	b.fill(limit, now)
	b.tokens -= n
}
