// etcd's own write-ahead log under the loads of the benchmark: so many savers, a real member's batches, or an opening. Go
// makes its own load, because a log that is called across processes would be measured with the calls. Built and run by
// ../etcd.ts; it prints one line of JSON, a Sample of ../../result.ts.
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.etcd.io/etcd/raft/raftpb"
	"go.etcd.io/etcd/wal"
	"go.etcd.io/etcd/wal/walpb"
	"go.uber.org/zap"
)

// Bytes of a page of memory, which /proc/self/statm counts in.
var pageBytes = float64(os.Getpagesize())

// sample is what is printed: a Sample of result.ts.
type sample struct {
	PerSecond float64            `json:"perSecond"`
	Latency   *latency           `json:"latency,omitempty"`
	More      map[string]float64 `json:"more,omitempty"`
}

// latency has quantiles in microseconds.
type latency struct {
	P50  float64 `json:"p50"`
	P99  float64 `json:"p99"`
	P999 float64 `json:"p999"`
	Max  float64 `json:"max"`
}

// ---- latencies, in the same buckets as ../../latencies.ts, so that quantiles of both are comparable

const (
	perOctave = 32
	lowestUs  = 0.1
	buckets   = 30 * perOctave
)

type latencies struct {
	buckets [buckets]uint32
	count   int
	max     float64
}

func (l *latencies) record(took time.Duration) {
	us := float64(took.Nanoseconds()) / 1000
	bucket := 0
	if us > lowestUs {
		bucket = int(math.Log2(us/lowestUs) * perOctave)
		if bucket >= buckets {
			bucket = buckets - 1
		}
	}
	l.buckets[bucket]++
	l.count++
	l.max = math.Max(l.max, us)
}

func (l *latencies) add(other *latencies) {
	for i, count := range other.buckets {
		l.buckets[i] += count
	}
	l.count += other.count
	l.max = math.Max(l.max, other.max)
}

func (l *latencies) quantile(q float64) float64 {
	left := int(math.Max(1, math.Ceil(float64(l.count)*q)))
	bucket := -1
	for left > 0 && bucket+1 < buckets {
		bucket++
		left -= int(l.buckets[bucket])
	}
	return math.Min(l.max, lowestUs*math.Exp2((float64(bucket)+0.5)/perOctave))
}

func (l *latencies) summary() *latency {
	if l.count == 0 {
		return nil
	}
	return &latency{P50: l.quantile(0.5), P99: l.quantile(0.99), P999: l.quantile(0.999), Max: l.max}
}

// ---- the log

type load struct {
	savers, entries, bytes int
	warm, measured         time.Duration
	sync                   bool
}

func create(dir string, sync bool) (*wal.WAL, error) {
	if err := os.MkdirAll(filepath.Dir(dir), 0o700); err != nil {
		return nil, err
	}
	// A nil logger prints to stderr; cutting a segment would, amid the measurement.
	w, err := wal.Create(zap.NewNop(), dir, nil)
	if err != nil {
		return nil, err
	}
	if !sync {
		w.SetUnsafeNoFsync()
	}
	return w, nil
}

// batches makes entries with one index after the other, and saves them.
type batches struct {
	w       *wal.WAL
	data    []byte
	last    uint64
	entries []raftpb.Entry
}

func newBatches(w *wal.WAL, bytes int) *batches {
	return &batches{w: w, data: filled(bytes)}
}

// save makes one wal.Save of so many entries and a HardState.
func (b *batches) save(count int) error {
	commit := b.last + uint64(count) - 1
	b.entries = b.entries[:0]
	for i := 0; i < count; i++ {
		b.last++
		b.entries = append(b.entries, raftpb.Entry{Term: 1, Index: b.last, Type: raftpb.EntryNormal, Data: b.data})
	}
	return b.w.Save(raftpb.HardState{Term: 1, Vote: 1, Commit: commit}, b.entries)
}

func filled(bytes int) []byte {
	data := make([]byte, bytes)
	for i := range data {
		data[i] = 0x5a
	}
	return data
}

// syncs tells how often etcd's WAL has synced, by its own metric.
func syncs() float64 {
	families, err := prometheus.DefaultGatherer.Gather()
	if err != nil {
		return math.NaN()
	}
	for _, family := range families {
		if family.GetName() == "etcd_disk_wal_fsync_duration_seconds" {
			return float64(family.GetMetric()[0].GetHistogram().GetSampleCount())
		}
	}
	return math.NaN()
}

func cpuUs() float64 {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		return math.NaN()
	}
	return float64(usage.Utime.Nano()+usage.Stime.Nano()) / 1000
}

// measure calls run twice, to warm up and to measure; run saves until the given time and returns the latencies.
func measure(l load, run func(until time.Time) (*latencies, error)) (*sample, error) {
	if _, err := run(time.Now().Add(l.warm)); err != nil {
		return nil, err
	}
	syncsBefore, cpuBefore, begun := syncs(), cpuUs(), time.Now()
	all, err := run(begun.Add(l.measured))
	if err != nil {
		return nil, err
	}
	took := time.Since(begun)
	saves := float64(all.count)
	if saves == 0 {
		return nil, errors.New("no save was made in that time")
	}
	return &sample{
		PerSecond: saves / took.Seconds(),
		Latency:   all.summary(),
		More: map[string]float64{
			"cpuUsPerSave": (cpuUs() - cpuBefore) / saves,
			"syncsPerSave": (syncs() - syncsBefore) / saves,
		},
	}, nil
}

// ---- so many savers

// savers runs a goroutine each, which waits for its save before it makes the next one.
func savers(count int, until time.Time, save func() error) (*latencies, error) {
	each := make([]latencies, count)
	failures := make([]error, count)
	var running sync.WaitGroup
	for i := range each {
		running.Add(1)
		go func(mine *latencies, failure *error) {
			defer running.Done()
			for {
				started := time.Now()
				if !started.Before(until) {
					return
				}
				if *failure = save(); *failure != nil {
					return
				}
				mine.record(time.Since(started))
			}
		}(&each[i], &failures[i])
	}
	running.Wait()
	all := &latencies{}
	for i := range each {
		if failures[i] != nil {
			return nil, failures[i]
		}
		all.add(&each[i])
	}
	return all, nil
}

// runEach makes every saver's batch a wal.Save of its own. The index is given out under the lock, because a WAL takes
// entries in their order only.
func runEach(w *wal.WAL, l load) (*sample, error) {
	var mu sync.Mutex
	b := newBatches(w, l.bytes)
	return measure(l, func(until time.Time) (*latencies, error) {
		return savers(l.savers, until, func() error {
			mu.Lock()
			defer mu.Unlock()
			return b.save(l.entries)
		})
	})
}

// group is what goes in one wal.Save: the savers that came while the one before was under way.
type group struct {
	saves int
	err   error
	done  chan struct{}
}

func newGroup() *group {
	return &group{done: make(chan struct{})}
}

// runReady makes all that waits one wal.Save, as an etcd node does with a Ready of its raft.
func runReady(w *wal.WAL, l load) (*sample, error) {
	var mu sync.Mutex
	waiting := newGroup()
	wake := make(chan struct{}, 1)
	ended := make(chan struct{})
	// The savers of the group before are runnable now. Without a turn for them two groups of one half each would alternate,
	// so they get turns as long as more of them come: a Ready is as large here as etcd could wish.
	collect := func() *group {
		for before := 0; ; {
			runtime.Gosched()
			mu.Lock()
			if ready := waiting; ready.saves == before {
				waiting = newGroup()
				mu.Unlock()
				return ready
			}
			before = waiting.saves
			mu.Unlock()
		}
	}
	go func() {
		defer close(ended)
		b := newBatches(w, l.bytes)
		for range wake {
			ready := collect()
			ready.err = b.save(ready.saves * l.entries)
			close(ready.done)
		}
	}()
	result, err := measure(l, func(until time.Time) (*latencies, error) {
		return savers(l.savers, until, func() error {
			mu.Lock()
			mine := waiting
			mine.saves++
			first := mine.saves == 1
			mu.Unlock()
			if first {
				wake <- struct{}{}
			}
			<-mine.done
			return mine.err
		})
	})
	close(wake)
	<-ended
	return result, err
}

// ---- a member's batches

// batch is a line of the file that -replay names.
type batch struct {
	Term    uint64 `json:"term"`
	Vote    uint64 `json:"vote"`
	Commit  uint64 `json:"commit"`
	Entries []struct {
		Index uint64 `json:"index"`
		Term  uint64 `json:"term"`
		Type  int32  `json:"type"`
		Bytes int    `json:"bytes"`
	} `json:"entries"`
}

type save struct {
	state   raftpb.HardState
	entries []raftpb.Entry
}

func readSaves(path string) ([]save, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	var saves []save
	for lines := json.NewDecoder(file); ; {
		var line batch
		if err := lines.Decode(&line); err == io.EOF {
			return saves, nil
		} else if err != nil {
			return nil, fmt.Errorf("%s: batch %d: %w", path, len(saves)+1, err)
		}
		next := save{state: raftpb.HardState{Term: line.Term, Vote: line.Vote, Commit: line.Commit}}
		for _, e := range line.Entries {
			entry := raftpb.Entry{Term: e.Term, Index: e.Index, Type: raftpb.EntryType(e.Type), Data: filled(e.Bytes)}
			next.entries = append(next.entries, entry)
		}
		saves = append(saves, next)
	}
}

// runReplay saves the batches of a file one after the other, again and again, each pass further up in the index.
func runReplay(w *wal.WAL, l load, path string) (*sample, error) {
	saves, err := readSaves(path)
	if err != nil {
		return nil, err
	}
	var span uint64
	for _, each := range saves {
		if count := len(each.entries); count > 0 {
			span = each.entries[count-1].Index
		}
	}
	if span == 0 {
		return nil, fmt.Errorf("%s has no entries", path)
	}
	return measure(l, func(until time.Time) (*latencies, error) {
		all := &latencies{}
		for {
			for i := range saves {
				each := &saves[i]
				started := time.Now()
				if err := w.Save(each.state, each.entries); err != nil {
					return nil, err
				}
				all.record(time.Since(started))
				if each.state.Term != 0 {
					each.state.Commit += span
				}
				for j := range each.entries {
					each.entries[j].Index += span
				}
			}
			if !time.Now().Before(until) {
				return all, nil
			}
		}
	})
}

// ---- filling and opening

// runFill makes a log of so many entries, synced nowhere. It gets its name when it is whole.
func runFill(dir string, l load, count int) (*sample, error) {
	unfinished := dir + ".tmp"
	if err := os.RemoveAll(unfinished); err != nil {
		return nil, err
	}
	w, err := create(filepath.Join(unfinished, "wal"), false)
	if err != nil {
		return nil, err
	}
	begun := time.Now()
	b := newBatches(w, l.bytes)
	for left := count; left > 0; left -= l.entries {
		some := l.entries
		if left < some {
			some = left
		}
		if err := b.save(some); err != nil {
			return nil, err
		}
	}
	took := time.Since(begun)
	if err := w.Close(); err != nil {
		return nil, err
	}
	if err := os.Rename(unfinished, dir); err != nil {
		return nil, err
	}
	return &sample{PerSecond: float64(count) / took.Seconds()}, nil
}

func rssMiB() float64 {
	statm, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return math.NaN()
	}
	fields := strings.Fields(string(statm))
	if len(fields) < 2 {
		return math.NaN()
	}
	pages, err := strconv.ParseFloat(fields[1], 64)
	if err != nil {
		return math.NaN()
	}
	return pages * pageBytes / (1 << 20)
}

// runOpen times what a member does at its start: wal.Open and ReadAll.
func runOpen(dir string) (*sample, error) {
	begun := time.Now()
	w, err := wal.Open(zap.NewNop(), dir, walpb.Snapshot{})
	if err != nil {
		return nil, err
	}
	_, _, entries, err := w.ReadAll()
	if err != nil {
		return nil, err
	}
	took := time.Since(begun)
	more := map[string]float64{
		"openMs":  float64(took.Nanoseconds()) / 1e6,
		"entries": float64(len(entries)),
		"rssMiB":  rssMiB(),
	}
	runtime.KeepAlive(entries)
	w.SetUnsafeNoFsync()
	return &sample{PerSecond: 1 / took.Seconds(), More: more}, w.Close()
}

// ----

func seconds(value float64) time.Duration {
	return time.Duration(value * float64(time.Second))
}

func run() (*sample, error) {
	dir := flag.String("dir", "", "directory; the log goes into wal below it")
	count := flag.Int("savers", 1, "savers at a time")
	entries := flag.Int("entries", 1, "entries a save")
	bytes := flag.Int("bytes", 256, "bytes an entry")
	measured := flag.Float64("seconds", 2, "seconds that are measured")
	warm := flag.Float64("warm", 0.5, "seconds before that")
	mode := flag.String("mode", "each", "each: a wal.Save a save; ready: a wal.Save for all that waits")
	noSync := flag.Bool("nosync", false, "sync nothing")
	replay := flag.String("replay", "", "file of batches to save, instead of the savers' ones")
	fill := flag.Int("fill", 0, "only make a log of so many entries, in saves of -entries")
	open := flag.Bool("open", false, "only open the log and read it all, after -fill if that is given, too")
	flag.Parse()
	if *dir == "" || flag.NArg() > 0 || *count < 1 || *entries < 1 {
		return nil, errors.New("needs -dir, positive -savers and -entries, and nothing besides flags")
	}
	if *mode != "each" && *mode != "ready" {
		return nil, fmt.Errorf("-mode is each or ready, not %s", *mode)
	}
	home := filepath.Join(*dir, "wal")
	l := load{*count, *entries, *bytes, seconds(*warm), seconds(*measured), !*noSync}
	if *fill > 0 {
		filled, err := runFill(*dir, l, *fill)
		if err != nil || !*open {
			return filled, err
		}
	}
	if *open {
		return runOpen(home)
	}
	w, err := create(home, l.sync)
	if err != nil {
		return nil, err
	}
	defer w.Close()
	switch {
	case *replay != "":
		return runReplay(w, l, *replay)
	case *mode == "ready":
		return runReady(w, l)
	}
	return runEach(w, l)
}

func main() {
	result, err := run()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	// What this system does not tell; JSON has no NaN.
	for name, value := range result.More {
		if math.IsNaN(value) {
			delete(result.More, name)
		}
	}
	line, err := json.Marshal(result)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println(string(line))
}
