package batch

// FirstAt finds the first record of the whole batch b at or past offset start with a timestamp, ms, of at least from. The batch is
// unpacked up to it, at most 64 MiB ([ErrTooLarge] beyond), piece by piece, for which owners take turns as in [SoundOf].
func FirstAt(owner string, b []byte, from, start int64) (offset, timestamp int64, found bool, err error) {
	h, _, err := Parse(b)
	if err != nil {
		return 0, 0, false, err
	}
	at := firstAt{h: &h, from: from, start: start}
	if err := soundIn(soundGate(), owner, b, &at); err != nil && !at.found {
		return 0, 0, false, err
	}
	return at.offset, at.timestamp, at.found, nil
}

type firstAt struct {
	h                 *Header
	from, start       int64
	offset, timestamp int64
	found             bool
}

func (f *firstAt) again() {}

func (f *firstAt) see(_ int32, delta, after int64, _ bool) (enough bool) {
	f.offset, f.timestamp = f.h.BaseOffset+delta, f.h.BaseTimestamp+after
	if f.h.LogAppendTime() {
		f.timestamp = f.h.MaxTimestamp
	}
	f.found = f.timestamp >= f.from && f.offset >= f.start
	return f.found
}

// LargestFrom is the largest timestamp, ms, of the records of the whole batch b at or past offset start, [NoTimestamp] if there is
// none. It unpacks as [FirstAt] does, all of the batch.
func LargestFrom(owner string, b []byte, start int64) (timestamp int64, err error) {
	h, _, err := Parse(b)
	if err != nil {
		return NoTimestamp, err
	}
	at := largestFrom{h: &h, start: start, timestamp: NoTimestamp}
	if err := soundIn(soundGate(), owner, b, &at); err != nil {
		return NoTimestamp, err
	}
	return at.timestamp, nil
}

type largestFrom struct {
	h                *Header
	start, timestamp int64
}

func (f *largestFrom) again() { f.timestamp = NoTimestamp }

func (f *largestFrom) see(_ int32, delta, after int64, _ bool) (enough bool) {
	if f.h.BaseOffset+delta < f.start {
		return false
	}
	ms := f.h.BaseTimestamp + after
	if f.h.LogAppendTime() {
		ms = f.h.MaxTimestamp
	}
	f.timestamp = max(f.timestamp, ms)
	return false
}
