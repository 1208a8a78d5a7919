package controller

import (
	"context"
	"sync"
	"time"

	"github.com/braidstream/braid/catalog"
)

// While a topic is held no transaction may begin in it, and one that is open holds up all producers of transactions until it
// ends. Most end in milliseconds. One whose producer was killed stays until its timeout, and how much of that is left
// cannot be told from here. So before an extend holds a topic it waits, with nothing held, until those that it met there
// have ended, and none that is open has been for long. Where producers keep
// transactions open all the time that does not come: then the topic is held after a while all the same.

const (
	// youngFor is how long a transaction may be open, as far as it was seen, for the topic to be held.
	youngFor = time.Second
	// lingerLook is how long after one look the next one comes.
	lingerLook = 50 * time.Millisecond
)

// openTxn is one transaction in a partition.
type openTxn struct {
	partition int
	producer  int64
	start     int64 // its first offset there
}

// lingering is what an extend has seen of the transactions in its topic before it holds that.
type lingering struct {
	began time.Time
	first map[openTxn]bool // of the first look: how long they have been open nobody knows
	since map[openTxn]time.Time
}

// note takes a look at what is open, and tells whether to wait on.
func (l *lingering) note(now time.Time, open []openTxn) (wait bool) {
	if l.first == nil {
		l.began, l.first = now, make(map[openTxn]bool, len(open))
		for _, x := range open {
			l.first[x] = true
		}
	}
	since := make(map[openTxn]time.Time, len(open))
	for _, x := range open {
		at, known := l.since[x]
		if !known {
			at = now
		}
		since[x] = at
		wait = wait || l.first[x] || now.Sub(at) >= youngFor
	}
	l.since = since
	return wait
}

// lingers tells whether the extend is not to hold its topic yet. It looks once, and pauses if so.
func (r *run) lingers(ctx context.Context) (bool, error) {
	if r.e.Mode == catalog.ModeLossy || r.e.Unreadable || !r.linger.began.IsZero() && time.Since(r.linger.began) > r.limits.linger {
		return false, nil
	}
	var mu sync.Mutex
	var open []openTxn
	err := each(ctx, chainsOf(r.pages), func(ctx context.Context, p int, ch *catalog.Chain) error {
		producers, err := r.openProducers(ctx, ch)
		mu.Lock()
		defer mu.Unlock()
		for i := range producers {
			open = append(open, openTxn{p, producers[i].ID, producers[i].TxnStart})
		}
		return err
	})
	switch {
	case ctx.Err() != nil:
		return false, ctx.Err()
	case err != nil, !r.linger.note(time.Now(), open):
		return false, nil // the next step looks again, and tells what is wrong
	}
	return true, pause(ctx, lingerLook)
}
