package local

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"sync/atomic"
	"syscall"

	"github.com/braidstream/braid/span/local/vfs"
)

// A file beside the log says up to where the log was synced. Frames tell that of what lies before them, but
// nothing would of the last ones: damage there could not be told from the torn tail of what nobody was told
// about. It is written after each sync of the log, before anybody is told, and synced a moment later by the
// keeper: what the system has of it when the process dies proves everything that was acknowledged, what the
// disk has of it when the power fails all but the last moments. What it says is true however old it is.
const (
	proofName    = "synced"
	proofMagic   = "braidsyn"
	proofVersion = 1
	proofSize    = 64 // within a sector: never torn
	maxProof     = 4096

	atProofVersion = 8
	atProofLSN     = 16
	atProofDir     = 24
	atProofCRC     = 60
)

// proof is the file of an open store.
type proof struct {
	files vfs.FS
	name  string
	dir   [16]byte
	open  atomic.Pointer[proofFile] // nil: there is none
	lsn   atomic.Uint64             // the syncer's last word
	safe  uint64                    // keeper only: what was synced of it
	gone  []*proofFile              // keeper only: files that lost the name
	said  bool                      // keeper only: that it cannot be written
}

type proofFile struct {
	f    vfs.File
	node vfs.Node
	buf  [proofSize]byte // of the write under way
}

func putProof(b []byte, lsn uint64, dir [16]byte) {
	clear(b[:proofSize])
	copy(b, proofMagic)
	binary.BigEndian.PutUint16(b[atProofVersion:], proofVersion)
	binary.BigEndian.PutUint64(b[atProofLSN:], lsn)
	copy(b[atProofDir:], dir[:])
	binary.BigEndian.PutUint32(b[atProofCRC:], checksum(b[:atProofCRC]))
}

// parseProof returns the LSN before which everything was synced.
func parseProof(b []byte, dir [16]byte) (uint64, error) {
	if len(b) < proofSize || string(b[:8]) != proofMagic {
		return 0, fmt.Errorf("%w: it does not say how far the log was synced", errDamaged)
	}
	if v := binary.BigEndian.Uint16(b[atProofVersion:]); v > proofVersion {
		return 0, fmt.Errorf("format %d: %w", v, errNewer)
	}
	if checksum(b[:atProofCRC]) != binary.BigEndian.Uint32(b[atProofCRC:]) {
		return 0, fmt.Errorf("%w: wrong checksum", errDamaged)
	}
	if [16]byte(b[atProofDir:atProofDir+16]) != dir {
		return 0, fmt.Errorf("%w: it is of another directory", errDamaged)
	}
	return binary.BigEndian.Uint64(b[atProofLSN:]), nil
}

// proved reads up to where the log was synced for sure; 0 if nothing says that.
func (s *Store) proved() (uint64, error) {
	name := filepath.Join(s.opt.Dir, proofName)
	b, err := readFile(s.opt.FS, name, maxProof)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil // an earlier build's
	}
	if err != nil {
		return 0, err
	}
	lsn, err := parseProof(b, s.id)
	if !errors.Is(err, errDamaged) {
		return lsn, err
	}
	// The log is as good as it was; only damage at its end would not be found.
	if s.inspect {
		s.holes = append(s.holes, fmt.Errorf("%s: %w", proofName, err))
	} else {
		s.opt.Logger.Warn("nothing says how far the log was synced", "cluster", s.opt.Name, "file", name, "error", err)
	}
	return 0, nil
}

// start makes the file say that everything before lsn is synced, which it is. The syncer may have come further
// meanwhile: its next word tells.
func (p *proof) start(lsn uint64) error {
	f, err := p.files.OpenWrite(p.name)
	made := errors.Is(err, fs.ErrNotExist)
	if made {
		f, err = p.files.Create(p.name)
	}
	if err != nil {
		return err
	}
	of := &proofFile{f: f}
	if err = of.write(lsn, p.dir); err == nil {
		err = f.Sync()
	}
	if err == nil && made {
		err = p.files.SyncDir(filepath.Dir(p.name))
	}
	var st vfs.Info
	if err == nil {
		st, err = p.files.Stat(p.name)
	}
	if err != nil {
		return errors.Join(err, f.Close())
	}
	of.node, p.safe = st.Node, lsn
	p.open.Store(of)
	return nil
}

func (of *proofFile) write(lsn uint64, dir [16]byte) error {
	putProof(of.buf[:], lsn, dir)
	_, err := of.f.WriteAt(of.buf[:], 0)
	return err
}

// synced is the syncer's: the log is durable up to lsn. An error costs nothing but the proof, which the keeper
// tries to write anew.
func (p *proof) synced(lsn uint64) {
	p.lsn.Store(lsn)
	of := p.open.Load()
	if of == nil || of.write(lsn, p.dir) == nil || !p.open.CompareAndSwap(of, nil) {
		return
	}
	_ = of.f.Close() // what it holds is true or unreadable
}

// tend is the keeper's: it syncs what was written since the last time, and opens the file again where it went away.
func (p *proof) tend() error {
	of := p.open.Load()
	if of != nil {
		st, err := p.files.Stat(p.name)
		if errors.Is(err, fs.ErrNotExist) || err == nil && st.Node != of.node {
			// Closed at the end: the syncer may be about to write to it.
			if p.open.CompareAndSwap(of, nil) {
				p.gone = append(p.gone, of)
			}
			of = nil
		}
	}
	lsn := p.lsn.Load()
	switch {
	case of == nil:
		return p.start(lsn)
	case lsn == p.safe:
		return nil
	}
	if err := of.f.Sync(); err != nil {
		return err
	}
	p.safe = lsn
	return nil
}

// close ends it; syncer and keeper have ended.
func (p *proof) close() error {
	var err error
	if of := p.open.Swap(nil); of != nil {
		err = of.f.Close()
	}
	for _, of := range p.gone {
		err = errors.Join(err, of.f.Close())
	}
	p.gone = nil
	return err
}

// tendProof is the keeper's look at the proof.
func (k *keeper) tendProof() {
	s := k.s
	if s.failure() != nil {
		return
	}
	err := s.proof.tend()
	if err != nil && !s.proof.said {
		s.opt.Logger.Warn("how far the log was synced cannot be written down; damage to its last records may not be found", "cluster", s.opt.Name, "error", err)
	}
	s.proof.said = err != nil
}

// passes tells errors for which a store goes without a proof for a while: it has to start on a full disk, too.
func passes(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) || shortage(err)
}
