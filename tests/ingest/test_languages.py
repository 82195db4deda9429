"""The language is told from a sentence or two; what can't be told is unknown."""

import pytest

from dalm.ingest.languages import FUNCTION_WORDS_OF, language_of, log_other_languages
from dalm.records import Passage

TEXTS = {
    "English": "The pump has to be drained before the winter, and it must not freeze.",
    "German": "Die Pumpe muss vor dem Winter entleert werden und darf nicht einfrieren.",
    "French": "La pompe doit être vidée avant l'hiver, et elle ne doit pas geler.",
    "Spanish": "La bomba debe vaciarse antes del invierno y no debe congelarse.",
    "Italian": "La pompa deve essere svuotata prima dell'inverno e non deve gelare.",
    "Portuguese": "A bomba deve ser esvaziada antes do inverno e não deve congelar.",
    "Dutch": "De pomp moet voor de winter worden geleegd en mag niet bevriezen.",
    "Chinese": "水泵必须在冬天之前排空。压力是 3 bar。",
    "Japanese": "ポンプは冬の前に空にする必要がある。最高圧力は三気圧。",
    "Korean": "펌프는 겨울 전에 비워야 합니다.",
    "Thai": "ต้องระบายน้ำออกจากปั๊มก่อนฤดูหนาว",
    "Burmese": "ဆောင်းရာသီမတိုင်မီ ပန့်ကို ရေထုတ်ရမည်။",
    "Khmer": "ត្រូវបង្ហូរទឹកចេញពីស្នប់មុនរដូវរងា។",
    "Cyrillic": "Насос необходимо опорожнить перед зимой (max. 3 bar).",
    "Greek": "Η αντλία πρέπει να αδειάσει πριν από τον χειμώνα.",
    "Arabic": "يجب تفريغ المضخة قبل الشتاء.",
    "Hebrew": "יש לרוקן את המשאבה לפני החורף.",
    "Devanagari": "पंप को सर्दियों से पहले खाली करना चाहिए।",
    "Tamil": "குளிர்காலத்திற்கு முன் பம்பை காலி செய்ய வேண்டும்.",
}


@pytest.mark.parametrize(("language", "text"), TEXTS.items())
def test_a_sentence_tells_its_language(language, text):
    assert language_of(text) == language
    assert language_of(text.upper()) == language
    assert language_of(f"{text} {text} " * 200) == language


@pytest.mark.parametrize(
    "text",
    [
        "",
        "12 bar, 5 mm",
        "NP-100, 12 bar, IP55",
        "Lorem ipsum dolor sit amet, consectetur adipiscing elit, sed eiusmod tempor",
        f"{TEXTS['English']} {TEXTS['German']}",  # in two languages
        "Pumpen skal tømmes før vinteren, og den må ikke fryse, når det er koldt.",
        "Pumpen måste tömmas före vintern och får inte frysa om det är kallt.",
        "Pompę należy opróżnić przed zimą, aby nie zamarzła, gdy jest zimno.",
        "Pompanın kış gelmeden önce boşaltılması gerekir ve donmaması için de korunur.",
        "Pumppu on tyhjennettävä ennen talvea, jotta se ei jäädy.",
        "Máy bơm phải được xả hết nước trước mùa đông và không được đóng băng.",
    ],
)
def test_what_is_none_of_them_is_not_taken_for_one(text):
    assert language_of(text) not in TEXTS


def test_a_few_foreign_words_do_not_change_the_language():
    text = "The word Zeitgeist, as in „der Geist der Zeit“, was used by Hegel and is used today."
    assert language_of(text) == "English"


def test_function_words_are_of_their_language():
    assert "the" in FUNCTION_WORDS_OF["English"]
    assert {"der", "für"} <= FUNCTION_WORDS_OF["German"]


def test_passages_in_other_languages_are_counted(caplog):
    caplog.set_level("INFO")
    of = [Passage.of(TEXTS[name]) for name in ("English", "German", "German", "Thai")]
    log_other_languages(of[:1], "none")
    assert not caplog.messages
    log_other_languages(of, "no questions")
    assert caplog.messages == [
        "language   3 of 4 passages are not English (2 German, 1 Thai): no questions"
    ]
