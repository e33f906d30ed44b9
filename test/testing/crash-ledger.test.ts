// CrashLedger: what it holds against what, what it says, and what it reads of what a killed process wrote.

import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { CrashLedger, LedgerError } from "../../src/testing/crash-ledger.js";

function ledgerOf(submitted: readonly string[], acknowledged: readonly number[]): CrashLedger<string> {
  const ledger = new CrashLedger<string>();
  for (const value of submitted) ledger.submit(value);
  for (const position of acknowledged) ledger.acknowledge(position);
  return ledger;
}

describe("CrashLedger.check()", () => {
  it("takes every prefix that holds all that was acknowledged, and nothing else", () => {
    fc.assert(
      fc.property(
        fc.array(fc.string({ maxLength: 3 }), { maxLength: 8 }),
        fc.nat(8),
        fc.nat(10),
        fc.boolean(),
        (submitted, promised, length, spoiled) => {
          const acknowledged = submitted.slice(0, promised).map((_, position) => position);
          const recovered: string[] = submitted.slice(0, length);
          if (spoiled && recovered.length > 0) recovered[recovered.length - 1] += "!";
          const ledger = ledgerOf(submitted, acknowledged.reverse());
          const fits = recovered.length >= acknowledged.length && !(spoiled && recovered.length > 0);
          if (fits) expect(() => ledger.check(recovered)).not.toThrow();
          else expect(() => ledger.check(recovered)).toThrow(LedgerError);
        },
      ),
    );
  });

  it("refuses values that were never submitted", () => {
    expect(() => ledgerOf(["a"], [0]).check(["a", "b"])).toThrow("recovered 2 values, and only 1 were submitted");
  });

  it("compares bytes, not the arrays that hold them, and objects by what is in them", () => {
    const bytes = new CrashLedger<Uint8Array>();
    bytes.submit(Uint8Array.of(1, 2));
    expect(() => bytes.check([Buffer.from([1, 2])])).not.toThrow();
    expect(() => bytes.check([Uint8Array.of(1, 3)])).toThrow("2 bytes 0103");
    const objects = new CrashLedger<object>();
    objects.submit({ a: [1] });
    expect(() => objects.check([{ a: [1] }])).not.toThrow();
    expect(() => objects.check([{ a: [2] }])).toThrow(LedgerError);
  });
});

describe("CrashLedger.keep()", () => {
  it("acknowledges when the action resolved, and not when it rejects", async () => {
    const ledger = new CrashLedger<string>();
    expect(await ledger.keep("a", async (value) => `${value}!`)).toBe("a!");
    await expect(ledger.keep("b", () => Promise.reject(new Error("full")))).rejects.toThrow("full");
    expect([ledger.submitted, ledger.acknowledged]).toEqual([["a", "b"], ["a"]]);
    expect(() => ledger.acknowledge(2)).toThrow(RangeError);
  });
});

describe("CrashLedger.view()", () => {
  it("shows the ledger as it stood, whatever came later", () => {
    const ledger = ledgerOf(["a", "b"], [0]);
    const view = ledger.view(ledger.marks);
    ledger.submit("c");
    ledger.acknowledge(2);
    expect([view.submitted, view.acknowledged]).toEqual([["a", "b"], ["a"]]);
    expect(() => view.check(["a", "b", "c"])).toThrow(LedgerError);
    expect(() => ledger.check(["a", "b", "c"])).not.toThrow();
  });
});

describe("CrashLedger.read()", () => {
  it("gives back what was written, up to the last whole line of any prefix", () => {
    let text = "";
    const written = new CrashLedger<string | Uint8Array>((line) => {
      text += line;
    });
    written.acknowledge(written.submit("one\ntwo"));
    written.submit(Uint8Array.of(0, 10, 255));
    written.acknowledge(1);
    const whole = CrashLedger.read<string | Uint8Array>(text);
    expect(whole.submitted).toEqual(written.submitted);
    expect(whole.acknowledged).toEqual(written.acknowledged);
    for (let length = 0; length <= text.length; length++) {
      const part = CrashLedger.read(text.slice(0, length));
      expect(part.submitted.length).toBeLessThanOrEqual(2);
      expect(written.submitted.slice(0, part.submitted.length)).toEqual(part.submitted);
    }
  });

  it("refuses whole lines that are none of a ledger's", () => {
    for (const line of ["x\n", "S 1 2\n", "A 0\n", "S 0\n"]) expect(() => CrashLedger.read(line)).toThrow(SyntaxError);
  });
});
